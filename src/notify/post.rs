//! From the spool to the mail server, for ever. What the server does not take is tried again.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::label::{Kind, Label};
use super::matter::Audience;
use super::patience::wait_after;
use super::smtp::{SendError, Server, Session};
use super::spool::Spool;
use super::surroundings::Surroundings;
use crate::config::{Notify, SpoolTerms};
use crate::model::Published;

/// Mails that are taken at once, and sent over one connection.
const BATCH: usize = 50;

/// How often it is looked whether the clock was set or `[notify]` has come, at least.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Sends what is due, for ever.
pub async fn deliver(spool: Arc<Spool>, surroundings: Arc<dyn Surroundings>) {
    let mut failures = 0;
    loop {
        let wait = until_due(&spool);
        tokio::select! {
            () = sleep(wait) => {}
            () = spool.changed() => {}
        }
        let config = surroundings.config();
        let Some(notify) = &config.notify else {
            continue;
        };
        while let Some(result) = deliver_batch(&spool, notify, &*surroundings).await {
            match result {
                Ok(()) => failures = 0,
                Err(error) => {
                    let pause = wait_after(failures, notify.spool).unsigned_abs();
                    failures = failures.saturating_add(1);
                    tracing::warn!(%error, ?pause, "mail does not go; it is kept and tried again");
                    sleep(pause).await;
                    break;
                }
            }
        }
    }
}

/// Sends one batch; `None` if nothing is due. An error is the server's: no mail goes.
async fn deliver_batch(
    spool: &Arc<Spool>,
    notify: &Notify,
    surroundings: &dyn Surroundings,
) -> Option<Result<(), SendError>> {
    let due = spool.due(Timestamp::now(), BATCH);
    if due.is_empty() {
        return None;
    }
    let server = Server::of(notify);
    let mut session: Option<Session> = None;
    for (id, label) in due {
        if !may_be_sent(&label, surroundings) {
            let (terms, now) = (notify.spool, Timestamp::now());
            settle(spool, &id, move |store, id| {
                store.postpone(id, terms, now);
            })
            .await;
            continue;
        }
        let mut open = match session.take() {
            Some(open) => open,
            None => match server.open().await {
                Ok(open) => open,
                Err(error) => {
                    give_up_old(spool, notify.spool).await;
                    return Some(Err(error));
                }
            },
        };
        match deliver_one(spool, &mut open, &id, &label, notify.spool).await {
            Ok(Sent::Yes) => session = Some(open),
            // After a mail that was not taken the connection is closed.
            Ok(Sent::No) => {}
            Err(error) => return Some(Err(error)),
        }
    }
    if let Some(session) = session {
        session.close().await;
    }
    Some(Ok(()))
}

/// A customer is not asked to allow an address that is not seen to be right at this moment.
fn may_be_sent(label: &Label, surroundings: &dyn Surroundings) -> bool {
    let asks = label.kind == Kind::Begin && label.audience == Audience::Customers;
    let address = label.address.filter(|_| asks);
    address.is_none_or(|address| surroundings.is_sound(Published(address)))
}

/// Whether the server took a mail.
enum Sent {
    Yes,
    No,
}

async fn deliver_one(
    spool: &Arc<Spool>,
    session: &mut Session,
    id: &str,
    label: &Label,
    terms: SpoolTerms,
) -> Result<Sent, SendError> {
    let (store, name) = (Arc::clone(spool), id.to_owned());
    let Ok(Ok(mail)) = spawn_blocking(move || store.read(&name)).await else {
        tracing::error!(id, "a mail in the spool cannot be read; it is put aside");
        settle(spool, id, move |store, id| store.give_up(id, terms)).await;
        return Ok(Sent::No);
    };
    let reference = label.reference.as_str();
    match session.send(&label.from, &label.to, &mail).await {
        Ok(()) => {
            settle(spool, id, |store, id| store.sent(id)).await;
            tracing::info!(reference, kind = ?label.kind, audience = ?label.audience, "mail sent");
            Ok(Sent::Yes)
        }
        Err(SendError::Later(said)) => {
            tracing::warn!(reference, id, said, "the server does not take a mail yet");
            let now = Timestamp::now();
            settle(spool, id, move |store, id| {
                store.postpone(id, terms, now);
            })
            .await;
            Ok(Sent::No)
        }
        Err(SendError::Never(said)) => {
            tracing::error!(
                reference,
                id,
                said,
                "a mail cannot be delivered; it is in mail/dead of the state directory"
            );
            settle(spool, id, move |store, id| store.give_up(id, terms)).await;
            Ok(Sent::No)
        }
        Err(error @ SendError::Server(_)) => Err(error),
    }
}

/// While the server is away nothing is tried one by one; what has waited for too long is given up all
/// the same.
async fn give_up_old(spool: &Arc<Spool>, terms: SpoolTerms) {
    let now = Timestamp::now();
    let store = Arc::clone(spool);
    let _ = spawn_blocking(move || store.give_up_old(now, terms)).await;
}

/// Writes down what became of a mail.
async fn settle(spool: &Arc<Spool>, id: &str, write: impl FnOnce(&Spool, &str) + Send + 'static) {
    let (store, id) = (Arc::clone(spool), id.to_owned());
    if let Err(panic) = spawn_blocking(move || write(&store, &id)).await {
        tracing::error!(%panic, "what became of a mail is not written down");
    }
}

fn until_due(spool: &Spool) -> Duration {
    let due = spool.next_due();
    let wait = due.map(|due| due.duration_since(Timestamp::now()));
    let wait = wait.map(|wait| wait.max(SignedDuration::ZERO).unsigned_abs());
    wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
}
