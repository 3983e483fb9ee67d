//! The rounds: read all side rows, hang ours up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::code::{Row, fit};
use super::shared::Side;
use crate::fleet::driver::wall_clock_ms;
use crate::fleet::exchange::{Exchange, ExchangeError, random_part};
use crate::fleet::moment::Moment;
use crate::fleet::row::Stamp;
use crate::quota::since_boot;

/// What makes hosts tell each other more than permits. It runs for ever, as one task.
pub struct SideDriver {
    side: Arc<Side>,
    exchange: Exchange,
    host: String,
    hosts: Vec<String>,
    /// Of our last row.
    stamp: Stamp,
    every: Duration,
}

/// The time between two rounds is longer or shorter by this part of it at most: hosts that started
/// together do not stay together.
const JITTER: f32 = 0.1;
/// When a round that failed is made up for; also the shortest time between two rounds.
const RETRY: Duration = Duration::from_secs(2);

impl SideDriver {
    /// `incarnation` is greater for each start of this host.
    pub(in crate::fleet) fn new(
        side: Arc<Side>,
        exchange: Exchange,
        host: &str,
        hosts: &[String],
        incarnation: u64,
        every: Duration,
    ) -> Self {
        Self {
            side,
            exchange,
            host: host.to_owned(),
            hosts: hosts.to_vec(),
            stamp: Stamp {
                incarnation,
                beat: 0,
            },
            every,
        }
    }

    /// A round at once and every `[fleet] side_every`, for ever.
    pub async fn run(mut self) {
        loop {
            let done = self.round().await;
            let pause = match done {
                Ok(()) => self.every,
                Err(_) => self.every.min(RETRY),
            };
            self.side.note(done, Moment::from_boot(since_boot()));
            let pause = pause.mul_f32(1.0 - JITTER + 2.0 * JITTER * random_part());
            tokio::select! {
                () = sleep(pause) => {}
                () = self.side.hurried.notified() => {}
            }
        }
    }

    async fn round(&mut self) -> Result<(), ExchangeError> {
        if let Some(url) = self.side.moved.swap(None) {
            self.exchange.move_to((*url).clone());
        }
        let rows = self.exchange.read().await?;
        let wall_ms = wall_clock_ms();
        self.hear(&rows, wall_ms);
        let row = self.write(wall_ms);
        self.exchange.publish(&row).await
    }

    fn hear(&mut self, rows: &[Option<Bytes>], wall_ms: u64) {
        let longest = self.side.longest;
        let rows = || {
            let rows = self.hosts.iter().zip(rows);
            rows.filter_map(|(host, row)| Some((host.as_str(), row.as_ref()?)))
        };
        let others = rows().filter(|(host, _)| *host != self.host);
        let now = Moment::from_boot(since_boot());
        let mut state = self.side.state();
        state.hearing.hear(others, longest, now, wall_ms);
        drop(state);
        if self.stamp.beat == 0 {
            let own = rows().find(|(host, _)| *host == self.host);
            let own = own.and_then(|(_, row)| Row::decode(row, longest).ok());
            let stored = own.map_or(0, |own| own.stamp.incarnation);
            // What hangs there for a day may be from a clock that was set back since.
            self.stamp.incarnation = self.stamp.incarnation.max(stored.saturating_add(1));
        }
    }

    fn write(&mut self, written_at_ms: u64) -> Vec<u8> {
        let longest = self.side.longest;
        let (contents, left_out) = fit(|topic, room| self.side.posted(topic, room), longest);
        self.stamp.beat += 1;
        let row = Row {
            host: self.host.clone(),
            stamp: self.stamp,
            written_at_ms,
            contents,
        };
        let row = row.encode(longest);
        let mut state = self.side.state();
        if state.left_out != left_out {
            let names: Vec<_> = left_out.iter().map(|topic| topic.name()).collect();
            tracing::warn!(
                left_out = names.join(", "),
                "what has no room in this host's side row ([fleet] side_rows): other hosts do not hear it"
            );
        }
        (state.bytes, state.left_out) = (row.len(), left_out);
        row
    }
}

impl fmt::Debug for SideDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideDriver")
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
