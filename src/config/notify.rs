//! `[notify]`: whom the gateway tells of what goes wrong, and how.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Table;

use super::credential::secret_url;
use super::grant::AccountSettings;
use super::name;
use super::read::{Section, Value};
use super::secret::Secret;
use super::shape::Language;
use super::table::{count, duration, set, set_some, table};
use crate::model::Account;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// `[notify]`.
#[derive(Debug, Clone)]
pub struct Notify {
    /// The mail server and whose mails it takes; `None`: a webhook alone is told.
    pub mail: Option<MailServer>,
    /// Where what operators are told is posted too, a URL.
    pub webhook: Option<Secret>,
    /// Trust anchors for both besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Which language stands first.
    pub language: Language,
    /// When many failures are one episode.
    pub terms: EpisodeTerms,
    /// When customers' mails are held.
    pub brake: BrakeTerms,
    /// How mails are kept and sent.
    pub spool: SpoolTerms,
}

/// The mail server, and whose mails it takes.
#[derive(Debug, Clone)]
pub struct MailServer {
    /// Its URL.
    pub smtp: Secret,
    /// The sender.
    pub from: String,
    /// The operators.
    pub operators: Vec<String>,
}

/// When an episode begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpisodeTerms {
    /// The time that its first three failures must span.
    pub begins_after: Duration,
    /// For how long a success must stand before it is over.
    pub ends_after: Duration,
    /// Most subjects that are followed at once.
    pub subjects_max: usize,
    /// Most signs of calls that wait to be judged.
    pub signs_max: usize,
}

/// When so many episodes of one cause begin that the cause may be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrakeTerms {
    /// More accounts than these …
    pub accounts: usize,
    /// … and than this part of the active ones, in percent …
    pub percent: usize,
    /// … within this time.
    pub window: Duration,
    /// How long a mail rests before it is sent, so that the brake still catches it.
    pub rest: Duration,
}

/// How mails are kept and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolTerms {
    /// Most mails that are kept, those held among them.
    pub mails_max: usize,
    /// Most undeliverable mails that are kept for people to look at.
    pub dead_max: usize,
    /// Longest exchange with the mail server about one mail.
    pub timeout: Duration,
    /// First wait before it is tried again; it doubles.
    pub retry: Duration,
    /// Longest such wait.
    pub retry_max: Duration,
    /// After this time a mail is undeliverable.
    pub give_up: Duration,
}

#[cfg(test)]
impl Notify {
    /// One that tells a server on this machine.
    pub(crate) fn for_tests() -> Self {
        Self {
            mail: Some(MailServer {
                smtp: Secret::new("smtp://127.0.0.1:2525".to_owned()),
                from: "gateway@example.jp".to_owned(),
                operators: vec!["sre@example.jp".to_owned()],
            }),
            webhook: None,
            ca_file: None,
            language: Language::Ja,
            terms: EpisodeTerms::default(),
            brake: BrakeTerms::default(),
            spool: SpoolTerms::default(),
        }
    }
}

impl Default for EpisodeTerms {
    fn default() -> Self {
        Self {
            begins_after: 60 * SECOND,
            ends_after: 300 * SECOND,
            subjects_max: 20_000,
            signs_max: 4096,
        }
    }
}

impl Default for BrakeTerms {
    fn default() -> Self {
        Self {
            accounts: 5,
            percent: 5,
            window: 600 * SECOND,
            rest: 60 * SECOND,
        }
    }
}

impl Default for SpoolTerms {
    fn default() -> Self {
        Self {
            mails_max: 10_000,
            dead_max: 1000,
            timeout: 30 * SECOND,
            retry: 30 * SECOND,
            retry_max: 300 * SECOND,
            give_up: 24 * HOUR,
        }
    }
}

/// Reads `[notify]`, which tells the contacts of these accounts.
pub(super) fn read(
    root: &mut Section<'_>,
    accounts: &BTreeMap<Account, AccountSettings>,
) -> Option<Notify> {
    let mut section = root.section("notify");
    if !section.is_present() {
        return None;
    }
    let webhook = section.get("webhook");
    let mail = match section.get("smtp") {
        None if webhook.is_some() => {
            no_mail(&mut section, accounts);
            None
        }
        _ => mail(&mut section),
    };
    let ca_file = section.get("ca_file").and_then(|value| value.path());
    let languages = [("ja", Language::Ja), ("en", Language::En)];
    let language = section.or("language", Language::Ja, |value| value.word(&languages));
    let terms = episodes(&mut section);
    let brake = brake(&mut section);
    let spool = spool(&mut section);
    section.finish();
    Some(Notify {
        mail,
        webhook: webhook.and_then(|value| hook(&value)),
        ca_file,
        language,
        terms,
        brake,
        spool,
    })
}

/// The mail server, and whose mails it takes.
fn mail(section: &mut Section<'_>) -> Option<MailServer> {
    let smtp = section.required(
        "smtp",
        "expected such as \"smtp://127.0.0.1:25\", or `webhook` alone",
    );
    let smtp = smtp.and_then(|value| server(&value));
    let from = section.required("from", "expected the sender's mail address");
    let from = from.and_then(|value| name::mail(&value));
    let operators = section.required("operators", "expected the operators' mail addresses");
    let operators = operators.and_then(|value| recipients(&value));
    Some(MailServer {
        smtp: smtp?,
        from: from?,
        operators: operators?,
    })
}

/// Without a mail server nobody has an address.
fn no_mail(section: &mut Section<'_>, accounts: &BTreeMap<Account, AccountSettings>) {
    let of_tenant = |account: &AccountSettings| {
        let mut tenants = account.tenants.values();
        tenants.any(|tenant| !tenant.contacts.is_empty())
    };
    let mut accounts = accounts.values();
    if accounts.any(|account| !account.contacts.is_empty() || of_tenant(account)) {
        let remedy = "expected `smtp`, `from` and `operators` beside it";
        section.warn(
            "webhook",
            "stands alone, and contacts are told by mail only",
            remedy,
        );
    }
    for key in ["from", "operators"] {
        if section.get(key).is_some() {
            let remedy = "expected `smtp` beside it; with `webhook` alone no mail goes";
            section.fault(key, "is of no use without `smtp`", remedy);
        }
    }
}

fn episodes(section: &mut Section<'_>) -> EpisodeTerms {
    let default = EpisodeTerms::default();
    let time = |value: &Value<'_>| value.duration(SECOND..=24 * HOUR);
    let many = |value: &Value<'_>| value.integer(1..=1_000_000);
    EpisodeTerms {
        begins_after: section.or("begins_after", default.begins_after, time),
        ends_after: section.or("ends_after", default.ends_after, time),
        subjects_max: section.or("subjects_max", default.subjects_max, many),
        signs_max: section.or("signs_max", default.signs_max, many),
    }
}

fn brake(section: &mut Section<'_>) -> BrakeTerms {
    let default = BrakeTerms::default();
    BrakeTerms {
        accounts: section.or("brake_accounts", default.accounts, |value| {
            value.integer(0..=1_000_000)
        }),
        percent: section.or("brake_percent", default.percent, |value| {
            value.integer(0..=100)
        }),
        window: section.or("brake_window", default.window, |value| {
            value.duration(SECOND..=24 * HOUR)
        }),
        rest: section.or("rest", default.rest, |value| {
            value.duration(Duration::ZERO..=HOUR)
        }),
    }
}

fn spool(section: &mut Section<'_>) -> SpoolTerms {
    let default = SpoolTerms::default();
    let many = |value: &Value<'_>| value.integer(1..=1_000_000);
    let wait = |value: &Value<'_>| value.duration(SECOND..=24 * HOUR);
    let terms = SpoolTerms {
        mails_max: section.or("mails_max", default.mails_max, many),
        dead_max: section.or("dead_max", default.dead_max, many),
        timeout: section.or("timeout", default.timeout, |value| {
            value.duration(SECOND..=HOUR)
        }),
        retry: section.or("retry", default.retry, wait),
        retry_max: section.or("retry_max", default.retry_max, wait),
        give_up: section.or("give_up", default.give_up, |value| {
            value.duration(SECOND..=30 * 24 * HOUR)
        }),
    };
    if terms.retry_max < terms.retry {
        section.fault(
            "retry_max",
            "is shorter than `retry`",
            "expected as long or longer",
        );
    }
    terms
}

/// The operators: at least one, or nobody would hear of what customers must not hear of.
fn recipients(value: &Value<'_>) -> Option<Vec<String>> {
    let addresses = value.list_of("mail addresses", name::mail)?;
    if value.raw().as_array().is_some_and(|list| list.is_empty()) {
        return value.fault("is empty", "expected at least one mail address");
    }
    Some(addresses)
}

/// The URL of the mail server. Not shown: it holds a password.
fn server(value: &Value<'_>) -> Option<Secret> {
    const SERVER: &str =
        "smtp://USER:PASSWORD@HOST:PORT or smtps://…, user and password percent-encoded";
    let url = secret_url(value, &["smtp", "smtps"])?;
    let rest = url.expose().split_once("://").map_or("", |(_, rest)| rest);
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let place = place.split(['/', '?']).next().unwrap_or_default();
    let is_place = place
        .parse::<http::uri::Authority>()
        .is_ok_and(|place| !place.host().is_empty());
    // A name without a password would log nobody in.
    let is_whole = rest.rsplit_once('@').is_none_or(|(user, _)| {
        user.split_once(':')
            .is_some_and(|(user, _)| !user.is_empty())
    });
    if is_place && is_whole && !rest.contains('?') {
        Some(url)
    } else {
        value.fault("is not such a URL", format!("expected {SERVER}"))
    }
}

/// The URL of the webhook. Not shown: whoever knows it can post there.
fn hook(value: &Value<'_>) -> Option<Secret> {
    const HOOK: &str =
        "https://HOST/PATH without user and fragment; http:// for this machine alone";
    let url = secret_url(value, &["https", "http"])?;
    let parsed = url.expose().parse::<http::Uri>().ok();
    let is_fit = parsed.is_some_and(|uri| {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_bare = uri.authority().is_some_and(|it| !it.as_str().contains('@'));
        let is_safe = uri.scheme_str() == Some("https") || is_this_machine(host);
        is_bare && is_safe && !host.is_empty()
    });
    if is_fit && !url.expose().contains('#') {
        Some(url)
    } else {
        value.fault("is not such a URL", format!("expected {HOOK}"))
    }
}

/// Nobody between could read or change what stays on this machine.
fn is_this_machine(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// `[notify]` as it is in force; `hidden` stands for its secrets.
pub(super) fn show(notify: &Notify, hidden: &str) -> Table {
    let language = match notify.language {
        Language::Ja => "ja",
        Language::En => "en",
    };
    let Notify {
        terms,
        brake,
        spool,
        ..
    } = notify;
    let mut shown = table([
        ("language", language.into()),
        ("begins_after", duration(terms.begins_after)),
        ("ends_after", duration(terms.ends_after)),
        ("subjects_max", count(terms.subjects_max)),
        ("signs_max", count(terms.signs_max)),
        ("brake_accounts", count(brake.accounts)),
        ("brake_percent", count(brake.percent)),
        ("brake_window", duration(brake.window)),
        ("rest", duration(brake.rest)),
        ("mails_max", count(spool.mails_max)),
        ("dead_max", count(spool.dead_max)),
        ("timeout", duration(spool.timeout)),
        ("retry", duration(spool.retry)),
        ("retry_max", duration(spool.retry_max)),
        ("give_up", duration(spool.give_up)),
    ]);
    if let Some(mail) = &notify.mail {
        set(&mut shown, "smtp", hidden);
        set(&mut shown, "from", mail.from.clone());
        set(&mut shown, "operators", mail.operators.clone());
    }
    let webhook = notify.webhook.as_ref();
    set_some(&mut shown, "webhook", webhook.map(|_| hidden));
    let ca_file = notify.ca_file.as_ref();
    let ca_file = ca_file.map(|path| path.display().to_string());
    set_some(&mut shown, "ca_file", ca_file);
    shown
}
