//! By what people are told: does the mail server let this host in, does the webhook answer? Nobody is told
//! anything.

use super::report::Report;
use crate::config::Config;
use crate::notify::hook::Hook;
use crate::notify::smtp::Server;
use crate::operator::notify::hook_of;

const WEBHOOK: &str = "webhook ([notify] webhook)";

pub(super) async fn examine(config: &Config, report: &mut Report) {
    let Some(notify) = &config.notify else {
        return report.note("notify", "no [notify]: nobody is told of anything");
    };
    if let Some(server) = Server::of(notify) {
        let what = "mail server ([notify] smtp)";
        match server.open().await {
            Ok(session) => {
                session.close().await;
                let next = "lets this host in; see that a mail arrives: `notify test ADDRESS`";
                report.well(what, next);
            }
            Err(error) => report.finding(
                what,
                format_args!(
                    "{error}; do the firewalls let this host out to it, and are the user, the \
                     password and [notify] ca_file right?"
                ),
            ),
        }
    }
    match hook_of(notify) {
        Ok(None) => {}
        Ok(Some(hook)) => webhook(&hook, report).await,
        Err(error) => report.finding(WEBHOOK, error),
    }
}

async fn webhook(hook: &Hook, report: &mut Report) {
    match hook.reach().await {
        Ok(()) => {
            let next = "answers; see that it takes a message: `notify test --webhook`";
            report.well(WEBHOOK, next);
        }
        Err(error) => report.finding(
            WEBHOOK,
            format_args!(
                "{error}; do the firewalls let this host out to it, and is its certificate of the \
                 system's authorities or of [notify] ca_file?"
            ),
        ),
    }
}
