//! Between those who tell and hear, and the exchange of rows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::hearing::{Hearing, SideRow};
use super::topic::Topic;
use super::view::{SidePeer, SideView};
use crate::config::StoreUrl;
use crate::fleet::exchange::ExchangeError;
use crate::fleet::moment::Moment;

/// What this host tells, and what it has heard.
#[derive(Debug)]
pub(in crate::fleet) struct Side {
    /// Longest row, in bytes.
    pub(in crate::fleet) longest: usize,
    /// Where the store is from now on.
    pub(in crate::fleet) moved: ArcSwapOption<StoreUrl>,
    posted: Mutex<BTreeMap<Topic, Content>>,
    state: Mutex<State>,
    rounds: watch::Sender<u64>,
    /// The next round is to be at once.
    pub(super) hurried: Notify,
}

/// What is told of a topic.
#[derive(Clone)]
enum Content {
    Fixed(Bytes),
    /// Made anew for each round.
    Made(Arc<Make>),
}

type Make = dyn Fn(usize) -> Bytes + Send + Sync;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) hearing: Hearing,
    pub(super) bytes: usize,
    pub(super) left_out: Vec<Topic>,
    done_at: Option<Moment>,
    last_error: Option<String>,
    failures: u64,
}

impl Side {
    pub(in crate::fleet) fn new(longest: usize) -> Self {
        Self {
            longest,
            moved: ArcSwapOption::empty(),
            posted: Mutex::default(),
            state: Mutex::default(),
            rounds: watch::Sender::new(0),
            hurried: Notify::new(),
        }
    }

    pub(in crate::fleet) fn post(&self, topic: Topic, content: Bytes) {
        self.posts().insert(topic, Content::Fixed(content));
    }

    pub(in crate::fleet) fn supply(&self, topic: Topic, make: Arc<Make>) {
        self.posts().insert(topic, Content::Made(make));
    }

    pub(in crate::fleet) fn heard(&self, topic: Topic, now: Moment) -> Vec<SideRow> {
        self.state().hearing.of(topic, now)
    }

    pub(in crate::fleet) fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    /// A whole round from here on, or as much of it as `limit` allows.
    pub(in crate::fleet) async fn round(&self, limit: Duration) {
        let whole = async {
            let mut rounds = self.rounds();
            // The row of one that is under way was perhaps written before.
            for _ in 0..2 {
                rounds.mark_unchanged();
                self.hurried.notify_one();
                if rounds.changed().await.is_err() {
                    break;
                }
            }
        };
        // Late or not, what there was to tell could not be told better.
        let _ = timeout(limit, whole).await;
    }

    pub(in crate::fleet) fn view(&self, now: Moment) -> SideView {
        let state = self.state();
        let peers = state.hearing.ages(now).map(|(host, age)| SidePeer {
            host: host.to_owned(),
            age,
        });
        SideView {
            age: state.done_at.map(|at| now.since(at)),
            last_error: state.last_error.clone(),
            failures: state.failures,
            bytes: state.bytes,
            left_out: state.left_out.clone(),
            bad_rows: state.hearing.bad.clone(),
            bad_reads: state.hearing.bad_reads,
            peers: peers.collect(),
        }
    }

    /// What is told of `topic` in a round that has room for so many bytes.
    pub(super) fn posted(&self, topic: Topic, room: usize) -> Option<Bytes> {
        let content = self.posts().get(&topic).cloned()?;
        Some(match content {
            Content::Fixed(content) => content,
            Content::Made(make) => make(room),
        })
    }

    /// Notes how a round went, and says so where that has changed.
    pub(super) fn note(&self, result: Result<(), ExchangeError>, now: Moment) {
        let mut state = self.state();
        match result {
            Ok(()) => (state.done_at, state.last_error) = (Some(now), None),
            Err(error) => {
                state.failures += 1;
                let error = error.to_string();
                if state.last_error.as_ref() != Some(&error) {
                    tracing::warn!(%error, "hosts tell each other nothing beside permits");
                }
                state.last_error = Some(error);
            }
        }
        drop(state);
        self.rounds.send_modify(|rounds| *rounds += 1);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn posts(&self) -> MutexGuard<'_, BTreeMap<Topic, Content>> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(content) => write!(f, "{} bytes", content.len()),
            Self::Made(_) => f.write_str("made anew"),
        }
    }
}
