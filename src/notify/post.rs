//! From the spool to the mail server and to the webhook, for ever. What they do not take is tried again.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::failure::SendError;
use super::label::{Kind, Label, Way};
use super::matter::Audience;
use super::patience::pause_after;
use super::send::{Session, is_configured};
use super::spool::Spool;
use super::surroundings::Surroundings;
use crate::config::Notify;
use crate::model::Published;

/// Mails that are taken at once, and sent over one connection.
const BATCH: usize = 50;

/// How often it is looked whether the clock was set or `[notify]` has come, at least.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How often a message is tried that is refused for a reason which people may mend: half an hour, with the
/// waits that the configuration has by default.
const REFUSALS_MAX: u32 = 10;

/// Sends what is due by one way, for ever. Neither way waits for the other.
pub async fn deliver(way: Way, spool: Arc<Spool>, surroundings: Arc<dyn Surroundings>) {
    let mut failures = 0;
    loop {
        let is_wanted = |notify: &Notify| is_configured(way, notify);
        let is_wanted = surroundings.config().notify.as_ref().is_some_and(is_wanted);
        // What is due while nobody knows where to waits for a configuration that does.
        let wait = if is_wanted {
            until_due(&spool, way)
        } else {
            LOOK_EVERY
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = spool.changed(way) => {}
        }
        let config = surroundings.config();
        let notify = config.notify.as_ref();
        let Some(notify) = notify.filter(|notify| is_configured(way, notify)) else {
            continue;
        };
        let post = Post {
            way,
            spool: &spool,
            notify,
            surroundings: &surroundings,
        };
        while let Some(result) = post.deliver_batch().await {
            match result {
                Ok(()) => failures = 0,
                Err(error) => {
                    let pause = pause_after(&error, failures, notify.spool);
                    failures = failures.saturating_add(1);
                    let noun = way.noun();
                    tracing::warn!(%error, ?pause, "{noun} does not go; it is kept and tried again");
                    sleep(pause).await;
                    break;
                }
            }
        }
    }
}

/// What sends by one way under the configuration of the moment.
struct Post<'a> {
    way: Way,
    spool: &'a Arc<Spool>,
    notify: &'a Notify,
    surroundings: &'a Arc<dyn Surroundings>,
}

/// Whether the server took a message.
enum Sent {
    Yes,
    No,
}

impl Post<'_> {
    /// Sends one batch; `None` if nothing is due. An error is the server's: no message goes.
    async fn deliver_batch(&self) -> Option<Result<(), SendError>> {
        let due = self.spool.due(self.way, Timestamp::now(), BATCH);
        if due.is_empty() {
            return None;
        }
        let mut session: Option<Session> = None;
        for (id, label) in due {
            if !may_be_sent(&label, &**self.surroundings) {
                self.postpone(&id).await;
                continue;
            }
            let mut open = match session.take() {
                Some(open) => open,
                None => match Session::open(self.way, self.notify, self.surroundings).await {
                    Ok(open) => open,
                    Err(error) => return Some(Err(self.give_up_old(error).await)),
                },
            };
            match self.deliver_one(&mut open, &id, &label).await {
                Ok(Sent::Yes) => session = Some(open),
                // After a message that was not taken the connection is closed.
                Ok(Sent::No) => {}
                Err(error) => return Some(Err(self.give_up_old(error).await)),
            }
        }
        if let Some(session) = session {
            session.close().await;
        }
        Some(Ok(()))
    }

    async fn deliver_one(
        &self,
        session: &mut Session,
        id: &str,
        label: &Label,
    ) -> Result<Sent, SendError> {
        let (store, name) = (Arc::clone(self.spool), id.to_owned());
        let Ok(Ok(content)) = spawn_blocking(move || store.read(&name)).await else {
            tracing::error!(id, "a mail in the spool cannot be read; it is put aside");
            self.give_up(id).await;
            return Ok(Sent::No);
        };
        let (reference, noun) = (label.reference.as_str(), self.way.noun());
        match session.send(label, content).await {
            Ok(()) => {
                self.settle(id, |store, id| store.sent(id)).await;
                tracing::info!(reference, kind = ?label.kind, audience = ?label.audience, "{noun} sent");
                Ok(Sent::Yes)
            }
            Err(SendError::Refused(said)) if self.spool.attempts(id) + 1 < REFUSALS_MAX => {
                tracing::error!(
                    reference,
                    id,
                    said,
                    "a {noun} is refused; it is tried again"
                );
                self.postpone(id).await;
                Ok(Sent::No)
            }
            Err(SendError::Later(said)) => {
                tracing::warn!(reference, id, said, "the server does not take a {noun} yet");
                self.postpone(id).await;
                Ok(Sent::No)
            }
            Err(SendError::Never(said) | SendError::Refused(said)) => {
                tracing::error!(
                    reference,
                    id,
                    said,
                    "a {noun} cannot be delivered; it is in mail/dead of the state directory"
                );
                self.give_up(id).await;
                Ok(Sent::No)
            }
            Err(error @ (SendError::Server(_) | SendError::Busy { .. })) => Err(error),
        }
    }

    async fn postpone(&self, id: &str) {
        let (terms, now) = (self.notify.spool, Timestamp::now());
        let postpone = move |store: &Spool, id: &str| {
            store.postpone(id, terms, now);
        };
        self.settle(id, postpone).await;
    }

    async fn give_up(&self, id: &str) {
        let terms = self.notify.spool;
        self.settle(id, move |store, id| store.give_up(id, terms))
            .await;
    }

    /// While the server is away nothing is tried one by one; what has waited for too long is given up all
    /// the same.
    async fn give_up_old(&self, error: SendError) -> SendError {
        let (way, terms, now) = (self.way, self.notify.spool, Timestamp::now());
        let store = Arc::clone(self.spool);
        let _ = spawn_blocking(move || store.give_up_old(way, now, terms)).await;
        error
    }

    /// Writes down what became of a message.
    async fn settle(&self, id: &str, write: impl FnOnce(&Spool, &str) + Send + 'static) {
        let (store, id) = (Arc::clone(self.spool), id.to_owned());
        if let Err(panic) = spawn_blocking(move || write(&store, &id)).await {
            tracing::error!(%panic, "what became of a mail is not written down");
        }
    }
}

/// A customer is not asked to allow an address that is not seen to be right at this moment.
fn may_be_sent(label: &Label, surroundings: &dyn Surroundings) -> bool {
    let asks = label.kind == Kind::Begin && label.audience == Audience::Customers;
    let address = label.address.filter(|_| asks);
    address.is_none_or(|address| surroundings.is_sound(Published(address)))
}

fn until_due(spool: &Spool, way: Way) -> Duration {
    let due = spool.next_due(way);
    let wait = due.map(|due| due.duration_since(Timestamp::now()));
    let wait = wait.map(|wait| wait.max(SignedDuration::ZERO).unsigned_abs());
    wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
}
