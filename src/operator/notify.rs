//! `notify`: whether mail arrives, what it says, and what becomes of mails that are held.

use http::{Method, StatusCode};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::fleet::{AskError, talk};
use crate::config::{AddressState, Config, Notify};
use crate::model::{Account, AppId, Code, Published};
use crate::notify::failure::SendError;
use crate::notify::hook::{Hook, Place, Scheme};
use crate::notify::label::{Kind, Label, WEBHOOK, Way};
use crate::notify::letter::{Customers, House, Letter, News, When, write, write_held, write_test};
use crate::notify::mail::{Envelope, MailError, compose};
use crate::notify::matter::{Audience, Matter, Subject};
use crate::notify::notice::{self, Facts};
use crate::notify::smtp::Server;
use crate::tls::outbound::{TlsError, to_own_server};

/// What is asked of the gateway that runs on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Which mails are held.
    Held,
    /// That those of a cause are sent.
    Release(String),
    /// That those of a cause are removed.
    Drop(String),
}

/// Why nothing can be shown or sent.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// There is no `[notify]`.
    #[error("the configuration has no [notify]: nobody is told of anything")]
    Off,
    /// There is no mail server.
    #[error("[notify] has no smtp: no mail goes; try `notify test --webhook`")]
    NoMail,
    /// There is no webhook.
    #[error("[notify] has no webhook")]
    NoWebhook,
    /// Trust anchors cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The letter cannot become a mail.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The letter cannot become JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The webhook did not take it.
    #[error("the webhook ([notify] webhook) did not take the message: {0}")]
    Post(SendError),
    /// The server did not take it.
    #[error("the mail server ([notify] smtp) did not take the mail: {0}")]
    Send(#[from] SendError),
}

/// Asks the gateway that runs on this host under `config`; its answer as lines of text.
///
/// # Errors
/// [`AskError`], with the remedy.
pub async fn ask(config: &Config, wish: &Wish) -> Result<String, AskError> {
    let name = |cause: &str| utf8_percent_encode(cause, NON_ALPHANUMERIC).to_string();
    let (method, path) = match wish {
        Wish::Held => (Method::GET, "/api/v1/notify/held".to_owned()),
        Wish::Release(cause) => (
            Method::POST,
            format!("/api/v1/notify/release?cause={}", name(cause)),
        ),
        Wish::Drop(cause) => (
            Method::POST,
            format!("/api/v1/notify/drop?cause={}", name(cause)),
        ),
    };
    let (status, body) = talk(config, method, &path).await?;
    let strange = |what: String| AskError::Strange(config.listen.admin, what);
    let answer: serde_json::Value =
        serde_json::from_slice(&body).map_err(|error| strange(error.to_string()))?;
    let mails = &answer["mails"];
    match (status, wish) {
        (StatusCode::OK, Wish::Held) => Ok(held_text(&answer)),
        (StatusCode::OK, Wish::Release(cause)) => {
            Ok(format!("{mails} mails of {cause} are being sent\n"))
        }
        (StatusCode::OK, Wish::Drop(cause)) => {
            Ok(format!("{mails} mails of {cause} are removed\n"))
        }
        _ => Err(match answer["message"].as_str() {
            Some(said) => AskError::Refused(said.to_owned()),
            None => strange(format!("status {status}")),
        }),
    }
}

fn held_text(answer: &serde_json::Value) -> String {
    let held = answer["held"].as_array().map_or(&[][..], Vec::as_slice);
    if held.is_empty() {
        return "no mails are held\n".to_owned();
    }
    let lines = held.iter().map(|one| {
        let cause = one["cause"].as_str().unwrap_or_default();
        format!("{cause}: {} mails\n", one["mails"])
    });
    lines.collect()
}

/// Sends one mail to `address` by the server of `[notify]`, at once; what to tell the operator.
///
/// # Errors
/// [`NotifyError`].
pub async fn test(config: &Config, address: &str, now: Timestamp) -> Result<String, NotifyError> {
    let (notify, house) = house_of(config)?;
    let mail = notify.mail.as_ref().ok_or(NotifyError::NoMail)?;
    let server = Server::of(notify).ok_or(NotifyError::NoMail)?;
    let letter = write_test(now, &house);
    let id = format!("test.{}", now.as_nanosecond());
    let envelope = Envelope {
        from: &mail.from,
        to: address,
        id: &id,
        follows: None,
        at: now,
    };
    let bytes = compose(&envelope, &letter)?;
    let mut session = server.open().await?;
    session.send(&mail.from, address, &bytes).await?;
    session.close().await;
    Ok(format!(
        "the mail server has taken a mail to {address}: see that it arrives, and not among spam\n"
    ))
}

/// Posts one message to the webhook of `[notify]`, at once; what to tell the operator.
///
/// # Errors
/// [`NotifyError`].
pub async fn test_webhook(config: &Config, now: Timestamp) -> Result<String, NotifyError> {
    let (notify, house) = house_of(config)?;
    let hook = hook_of(notify)?.ok_or(NotifyError::NoWebhook)?;
    let label = Label {
        reference: format!("test.{}", now.as_nanosecond()),
        kind: Kind::Test,
        cause: "test".to_owned(),
        account: None,
        address: None,
        audience: Audience::Operators,
        way: Way::Webhook,
        from: String::new(),
        to: WEBHOOK.to_owned(),
        created: now,
        due: now,
    };
    let facts = Facts {
        tenant: None,
        address: None,
        since: None,
        until: None,
        host: house.host.clone(),
    };
    let body = notice::compose(&label, &facts, &write_test(now, &house))?;
    let posted = hook.post(&label.id(), body).await;
    posted.map_err(NotifyError::Post)?;
    Ok("the webhook has taken a message: see that it shows where it should\n".to_owned())
}

/// The webhook of `[notify]`, if there is one. It blocks on the disk.
pub(super) fn hook_of(notify: &Notify) -> Result<Option<Hook>, TlsError> {
    let Some(place) = Place::of(notify) else {
        return Ok(None);
    };
    let tls = match place.scheme() {
        Scheme::Clear => None,
        Scheme::Tls => Some(to_own_server(notify.ca_file.as_deref())?),
    };
    Ok(Some(Hook::new(place, tls)))
}

/// Every letter that people may get, as the configuration makes them; of one cause, if one is given.
///
/// # Errors
/// [`NotifyError::Off`].
pub fn preview(
    config: &Config,
    cause: Option<&str>,
    now: Timestamp,
) -> Result<String, NotifyError> {
    let (_, house) = house_of(config)?;
    let account = Account::from_normal("example.cybozu.com");
    let address = house.addresses.first().copied();
    let address = address.unwrap_or_else(|| Published([192, 0, 2, 1].into()));
    let mut text = String::new();
    for matter in [
        Matter::AddressRefused(address),
        Matter::CredentialsRefused(None),
        Matter::BudgetNear,
        Matter::LimitFull(None),
        Matter::AccountUnknown(None),
        Matter::Maintenance,
        Matter::AddressWrong(address),
        Matter::Broken(Code::EgressUnavailable),
    ] {
        if cause.is_some_and(|cause| cause != matter.cause()) {
            continue;
        }
        let of_an_account = !matches!(matter, Matter::AddressWrong(_) | Matter::Broken(_));
        let subject = Subject {
            account: of_an_account.then(|| account.clone()),
            matter,
        };
        let audience = match subject.matter.concerns_customers() {
            true => Audience::Customers,
            false => Audience::Operators,
        };
        for turn in [
            When::Begins(now),
            When::Ends {
                since: now,
                well_since: now,
            },
        ] {
            let letter = write(&News {
                subject: &subject,
                turn,
                audience,
                budget: Some((AppId(1), 80)),
                customers: Customers::Told(1),
                house: &house,
            });
            show(&mut text, audience, &letter);
        }
        if cause.is_some() {
            let letter = write_held(&subject.matter, 6, now, &house);
            show(&mut text, Audience::Operators, &letter);
        }
    }
    Ok(text)
}

fn show(text: &mut String, audience: Audience, letter: &Letter) {
    let to = match audience {
        Audience::Customers => "customers",
        Audience::Operators => "operators",
    };
    let Letter { subject, body } = letter;
    *text += &format!("==== to {to}\nSubject: {subject}\n\n{body}\n");
}

fn house_of(config: &Config) -> Result<(&Notify, House), NotifyError> {
    let notify = config.notify.as_ref().ok_or(NotifyError::Off)?;
    let active = config.addresses.iter();
    let active = active.filter(|address| address.state == AddressState::Active);
    let addresses = active.map(|address| address.published).collect();
    Ok((notify, House::of(config, notify, addresses)))
}
