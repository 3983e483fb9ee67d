//! What the rest of the gateway has of the desk: where calls are told of, the mails, and what operators
//! decide about those held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::brake::Brake;
use super::feed::Feed;
use super::label::SpoolError;
use super::moment::Moment;
use super::sign::Seen;
use super::spool::Spool;
use crate::config::Config;
use crate::model::{Account, AppId};

/// Other things that may wait to be told.
const EVENTS: usize = 256;

/// What is heard beside calls.
#[derive(Clone, Debug)]
pub enum Event {
    /// An app has reached that part of its calls of the day, in percent.
    BudgetNear(Account, AppId, u64),
    /// Customers are not told of these episodes after all.
    NotTold(Vec<String>),
}

/// What the rest of the gateway has of the desk. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Where calls are told of.
    pub feed: Feed,
    /// The mails.
    pub spool: Arc<Spool>,
    brake: Arc<Mutex<Brake>>,
    events: mpsc::Sender<Event>,
}

/// What the clerk hears.
#[derive(Debug)]
pub struct Inbox {
    pub(super) calls: mpsc::Receiver<(Seen, Moment)>,
    pub(super) events: mpsc::Receiver<Event>,
}

/// Opens the spool in the state directory. It blocks on the disk.
///
/// # Errors
/// [`SpoolError`].
pub fn open(config: &Config) -> Result<(Desk, Inbox), SpoolError> {
    let (spool, unreadable) = Spool::open(&config.state_dir)?;
    for problem in unreadable {
        tracing::error!(
            problem,
            "a mail in the spool cannot be read, and stays there"
        );
    }
    let terms = config.notify.as_ref().map(|notify| notify.terms);
    let (feed, calls) = Feed::new(terms.unwrap_or_default().signs_max);
    let mut brake = Brake::default();
    for label in spool.held() {
        brake.hold(label.cause);
    }
    let (sender, events) = mpsc::channel(EVENTS);
    let desk = Desk {
        feed,
        spool: Arc::new(spool),
        brake: Arc::new(Mutex::new(brake)),
        events: sender,
    };
    Ok((desk, Inbox { calls, events }))
}

impl Desk {
    /// Tells of something beside calls. It never waits: what finds no room is lost, and said.
    pub fn tell(&self, event: Event) {
        if let Err(error) = self.events.try_send(event) {
            tracing::error!(%error, "nobody is told of something that happened");
        }
    }

    /// The mails held, by cause: how many.
    #[must_use]
    pub fn held(&self) -> BTreeMap<String, usize> {
        let mut held: BTreeMap<String, usize> = BTreeMap::new();
        for cause in self.brake().causes() {
            held.insert(cause.to_owned(), 0);
        }
        for label in self.spool.held() {
            *held.entry(label.cause).or_default() += 1;
        }
        held
    }

    /// Sends the mails held of a cause, and holds no more of it; how many. It blocks on the disk.
    pub fn release(&self, cause: &str) -> usize {
        let released = self.spool.release(|label| label.cause == cause);
        self.brake().let_go(cause);
        released
    }

    /// Removes the mails held of a cause, and holds no more of it; how many. It blocks on the disk.
    pub fn drop_held(&self, cause: &str) -> usize {
        let dropped = self.spool.drop_held(|label| label.cause == cause);
        self.brake().let_go(cause);
        let count = dropped.len();
        let references = dropped.into_iter().map(|label| label.reference);
        self.tell(Event::NotTold(references.collect()));
        count
    }

    pub(super) fn brake(&self) -> MutexGuard<'_, Brake> {
        self.brake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
