//! Letters in English.

use super::announce::Planned;
use super::letter::{Customers, Held, House, News, Paragraphs, When};
use super::matter::{Matter, Subject};
use crate::kintone::help;

/// What is wrong, for the subject.
pub(super) fn topic(news: &News<'_>) -> String {
    if matches!(news.turn, When::Ends { .. }) {
        return topic_over(&news.subject.matter);
    }
    match &news.subject.matter {
        Matter::AddressRefused(address) => format!("{address}/32 is not allowed"),
        Matter::CredentialsRefused(_) => "kintone refuses the credentials".to_owned(),
        Matter::BudgetNear => "today's API requests are near their limit".to_owned(),
        Matter::LimitFull(_) => "the limit of concurrent requests is full".to_owned(),
        Matter::AccountUnknown(_) => "kintone does not know this subdomain".to_owned(),
        Matter::Maintenance => "kintone is in maintenance".to_owned(),
        Matter::AddressWrong(address) => {
            format!("{address} is refused and is not seen to be right")
        }
        Matter::Broken(code) => format!("{} goes on", code.name()),
    }
}

fn topic_over(matter: &Matter) -> String {
    match matter {
        Matter::AddressRefused(address) => format!("{address}/32 is allowed now"),
        Matter::CredentialsRefused(_) => "kintone accepts the credentials again".to_owned(),
        Matter::BudgetNear => "a new day of API requests has begun".to_owned(),
        Matter::LimitFull(_) => "there is room for concurrent requests again".to_owned(),
        Matter::AccountUnknown(_) => "the subdomain can be reached now".to_owned(),
        Matter::Maintenance => "kintone's maintenance is over".to_owned(),
        Matter::AddressWrong(address) => format!("{address} is let in again"),
        Matter::Broken(code) => format!("{} is over", code.name()),
    }
}

pub(super) fn since(time: &str) -> String {
    format!("Since {time}; it goes on.")
}

pub(super) fn from_to(since: &str, well_since: &str) -> String {
    format!("From {since} to {well_since}.")
}

/// What operators are told when the mails of a cause are held.
pub(super) fn held(cause: &str, accounts: usize, at: &str, host: &str, is_held: Held) -> String {
    let what = match is_held {
        Held::Customers => format!(
            "Mails to customers are held. When you know that the cause is not ours, do one of these:\n\n  \
             kintone-egress notify release --config FILE {cause}\n  \
             kintone-egress notify drop --config FILE {cause}\n"
        ),
        Held::Nobody => format!(
            "No mails about single accounts are sent. To have them again:\n\n  \
             kintone-egress notify release --config FILE {cause}\n"
        ),
    };
    format!(
        "Host {host}, {at}: {cause} began at {accounts} accounts at nearly the same time. The cause may \
         be ours.\n{what}"
    )
}

/// What only operators are told.
pub(super) fn to_operators(news: &News<'_>) -> String {
    let mut told = format!("(for operators) host: {}\n", news.house.host);
    if news.subject.matter.concerns_customers() {
        told += &match news.customers {
            Customers::NoContacts => {
                "(for operators) no contacts are configured: no customer was told\n".to_owned()
            }
            Customers::NoMail => {
                "(for operators) no mail server is configured: no customer was told\n".to_owned()
            }
            Customers::NotTold => {
                "(for operators) no customer was told of the beginning, so none is of the end\n"
                    .to_owned()
            }
            Customers::Told(count) => {
                format!("(for operators) {count} contacts of the customer get the same\n")
            }
        };
    }
    if let Some(tenant) = news.subject.matter.tenant() {
        told += &format!("(for operators) tenant: {tenant}\n");
    }
    told
}

/// What happens, its effect, what to do, where.
pub(super) fn paragraphs(news: &News<'_>) -> Paragraphs {
    let account = news.subject.account.as_ref();
    let account = account.map_or_else(|| "kintone".to_owned(), ToString::to_string);
    if matches!(news.turn, When::Ends { .. }) {
        return Paragraphs {
            what: format!("{account}: {}.", topic(news)),
            effect: "The integration works as usual.".to_owned(),
            action: "Nothing is to be done. Thank you.".to_owned(),
            place: "No setting is to be changed.".to_owned(),
        };
    }
    match &news.subject.matter {
        Matter::AddressRefused(address) => refused(news, &account, &address.to_string()),
        Matter::CredentialsRefused(_) => credentials(&account),
        Matter::BudgetNear => budget(news, &account),
        Matter::LimitFull(_) => limit(&account),
        Matter::AccountUnknown(_) => unknown(&account),
        Matter::Maintenance | Matter::AddressWrong(_) | Matter::Broken(_) => {
            of_operators(news, &account)
        }
    }
}

/// The subject of an announcement.
pub(super) fn announcement_subject(planned: Planned) -> String {
    format!(
        "[Action required] kintone integration: please add {}/32",
        planned.address
    )
}

/// From when an address is used, and the paragraphs of its announcement.
pub(super) fn announcement(
    subject: &Subject,
    planned: Planned,
    house: &House,
) -> (String, Paragraphs) {
    let Planned { address, from } = planned;
    let account = subject.account.as_ref();
    let page = account.map_or(help::RESTRICTIONS_CYBOZU, help::ip_restrictions);
    let account = account.map_or_else(|| "your kintone".to_owned(), ToString::to_string);
    let when = match from {
        Some(from) => format!("From {} on, 00:00 JST.", from.strftime("%-d %B %Y")),
        None => "You will be told from which day on.".to_owned(),
    };
    let paragraphs = Paragraphs {
        what: format!("The integration will reach kintone from {address} too."),
        effect: format!(
            "Where {account} restricts IP addresses, requests from {address} are refused unless it is \
             added. Without restrictions nothing changes."
        ),
        action: format!(
            "Add this line to the allowed IP addresses before then. Keep the lines that are there.\n\
             \n  {address}/32\n"
        ),
        place: format!(
            "\"IP address restrictions\" in the administration of cybozu.com or Kintone; administrators \
             only.\n{}\n{}",
            page.en,
            house.page.as_deref().unwrap_or_default()
        ),
    };
    (when, paragraphs)
}

fn refused(news: &News<'_>, account: &str, address: &str) -> Paragraphs {
    let page = news.subject.account.as_ref().map(help::ip_restrictions);
    let page = page.unwrap_or(help::RESTRICTIONS_CYBOZU);
    let ours = news.house.page.as_ref();
    let ours = ours.map_or_else(String::new, |page| {
        format!("Our addresses, and how to enter them: {page}\n")
    });
    Paragraphs {
        what: format!(
            "The kintone of {account} refuses connections from {address}. Most likely its IP address \
             restrictions do not allow {address}/32."
        ),
        effect: format!(
            "Requests that leave from {address} do not reach kintone. Those that were refused were not \
             executed."
        ),
        action: format!(
            "Add this line to the allowed IP addresses. Keep the lines that are there.\n\
             \n  {address}/32\n\n\
             The integration uses all of these addresses. Add those that are missing too.\n\n{}\n\
             With \"Deny all\" nothing gets in: choose \"Allow specific IP addresses\".",
            news.house.lines()
        ),
        place: format!(
            "\"IP address restrictions\" in the administration of cybozu.com or Kintone; administrators \
             only.\n{}\n{ours}",
            page.en
        ),
    }
}

fn credentials(account: &str) -> Paragraphs {
    Paragraphs {
        what: format!(
            "The kintone of {account} does not accept the login name and password, or the API token, \
             that the integration was given."
        ),
        effect: "Its requests are refused and not executed. Going on with a wrong password may lock \
                 the kintone user."
            .to_owned(),
        action: "Check in kintone that the user is active and that neither password nor API token was \
                 changed or deleted; enter the right ones in the settings of the integration."
            .to_owned(),
        place: "Users & System Administration (the user), the settings of the app (API token), and the \
                settings of the integration."
            .to_owned(),
    }
}

fn budget(news: &News<'_>, account: &str) -> Paragraphs {
    let used = news.budget.map_or_else(String::new, |(app, percent)| {
        format!(" App {app} has reached {percent} % of it.")
    });
    Paragraphs {
        what: format!("The API requests of {account} are near the limit of a day.{used}"),
        effect:
            "Beyond the limit requests may not be executed, or Cybozu may contact you. Counting \
                 starts anew each day at 09:00 JST."
                .to_owned(),
        action:
            "Let other integrations and batch jobs send less to this app, or let them run after \
                 09:00 JST."
                .to_owned(),
        place: format!("The limit of API requests: {}", help::LIMITS.en),
    }
}

fn limit(account: &str) -> Paragraphs {
    Paragraphs {
        what: format!("The limit of concurrent requests of {account} has been full for a while."),
        effect: "Requests wait for their turn. Those that waited too long were neither sent nor \
                 executed."
            .to_owned(),
        action: "Let fewer other integrations, plug-ins and batch jobs run at this time of day."
            .to_owned(),
        place: format!("The limit of concurrent requests: {}", help::LIMITS.en),
    }
}

fn unknown(account: &str) -> Paragraphs {
    Paragraphs {
        what: format!("kintone has no subdomain {account}."),
        effect: "The requests of this integration do not reach kintone.".to_owned(),
        action:
            "Check whether the subdomain was changed or given up, and enter the right one in the \
                 settings of the integration."
                .to_owned(),
        place: "The subdomain in the settings of the integration.".to_owned(),
    }
}

fn of_operators(news: &News<'_>, account: &str) -> Paragraphs {
    Paragraphs {
        what: format!("{account}: {}.", topic(news)),
        effect: "Calls fail. No customer was told.".to_owned(),
        action: format!(
            "See the metrics, /readyz and the access log (cause: {}).",
            news.subject.matter.cause()
        ),
        place: format!("The admin listener of host {}.", news.house.host),
    }
}
