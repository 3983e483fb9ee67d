//! The life of a tunnel between its ClientHello and its end: who owes what, and for how long.
//!
//! ```text
//!   caller's byte ──▶ Owed ──kintone's byte──▶ Idle ──tunnel_yield──▶ Yielding ─┐
//!                      │  ▲                     │                       │       │
//!                      │  └─────caller's byte───┴───────────────────────┘       │
//!             response_timeout              tunnel_idle        calls wait, and it
//!                      ▼                        ▼              is the longest idle
//!                   failed                    closed ◀──────────────────────────┘
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::exchange::{Exchange, Head};
use super::relay::{Event, Relay, Turn};
use crate::config::QuotaSettings;
use crate::drain::Drain;
use crate::egress::OpenConnection;
use crate::model::{Code, Detail, Outcome};
use crate::quota::{Owes, Permit, YieldGuard};
use crate::server::Connection;
use crate::telemetry::TunnelGauge;
use crate::telemetry::live::Phase;

/// How much kintone may still send to a caller that is gone before the tunnel is aborted.
const READ_WITHOUT_CALLER_MAX: usize = 8 << 20;

/// How long a caller may take to close after kintone has closed.
const CALLER_CLOSE_WAIT: Duration = Duration::from_secs(2);

/// An open tunnel.
pub(crate) struct Passage {
    pub(crate) caller: Arc<TcpStream>,
    /// The caller's, of which `caller` is the socket.
    pub(crate) connection: Arc<Connection>,
    pub(crate) kintone: TcpStream,
    /// Counts the connection to kintone as open.
    pub(crate) open: OpenConnection,
    pub(crate) permit: Permit,
    pub(crate) exchange: Exchange,
    pub(crate) gauge: TunnelGauge,
    pub(crate) drain: Drain,
    pub(crate) settings: Arc<QuotaSettings>,
    pub(crate) response_timeout: Duration,
    pub(crate) stall_timeout: Duration,
}

/// Why a tunnel ends.
enum End {
    /// kintone closed: its end was seen.
    Closed,
    KintoneBroke,
    CallerGone(Option<Detail>),
    Idle,
    Yielded,
    Life,
    Silent,
    Cut,
}

impl Passage {
    /// Carries the tunnel, beginning with the ClientHello, to its end.
    pub(crate) async fn run(mut self, first: Vec<u8>) {
        let mut relay = Relay::new(Instant::now());
        relay.begin(first);
        self.permit.owed(Owes::Answer);
        let end = self.watch(&mut relay).await;
        let (bytes_in, bytes_out) = relay.bytes();
        let record = self.exchange.record();
        (record.bytes_in, record.bytes_out) = (bytes_in, bytes_out);
        // What the end needs is not carried along while the tunnel is open.
        Box::pin(self.close(end, relay.turn())).await;
    }

    async fn watch(&mut self, relay: &mut Relay) -> End {
        let born = Instant::now();
        let mut check = Box::pin(tokio::time::sleep(self.interval()));
        let mut yielding: Option<YieldGuard> = None;
        let mut counted = (0, 0);
        let drain = self.drain.clone();
        let cutting = drain.cutting();
        tokio::pin!(cutting);
        loop {
            let event = tokio::select! {
                biased;
                event = relay.carry(&self.caller, &self.kintone) => Some(event),
                () = check.as_mut() => None,
                () = asked(&mut yielding) => {
                    if self.may_yield(relay) {
                        return End::Yielded;
                    }
                    yielding = None;
                    continue;
                }
                () = &mut cutting => return End::Cut,
            };
            self.count(relay, &mut counted);
            match event {
                Some(Event::Turned) => {
                    yielding = None;
                    self.turn(relay.turn());
                }
                Some(Event::KintoneClosed) => return End::Closed,
                Some(Event::KintoneBroke) => return End::KintoneBroke,
                Some(Event::CallerBroke) => return End::CallerGone(None),
                None => match self.inspect(relay, born, &mut check) {
                    Some(end) => return end,
                    None if self.may_yield(relay) => {
                        yielding.get_or_insert_with(|| self.permit.yielding(relay.moved()));
                    }
                    None => yielding = None,
                },
            }
        }
    }

    fn count(&self, relay: &Relay, counted: &mut (u64, u64)) {
        let (up, down) = relay.bytes();
        self.gauge.to_kintone(up - counted.0);
        self.gauge.from_kintone(down - counted.1);
        *counted = (up, down);
    }

    fn turn(&self, turn: Turn) {
        match turn {
            Turn::Kintone => {
                self.permit.owed(Owes::Answer);
                self.exchange.phase(Phase::Sent);
            }
            Turn::Caller => {
                self.permit.owed(Owes::Nothing);
                self.exchange.phase(Phase::Idle);
            }
        }
    }

    /// How often the clock is looked at. No limit is shorter, so that none is missed by more than
    /// it takes to arm the timer for it.
    fn interval(&self) -> Duration {
        let limits = [
            self.settings.tunnel_idle,
            self.settings.tunnel_yield,
            self.settings.tunnel_life,
            self.response_timeout,
            self.stall_timeout,
        ];
        let shortest = limits.into_iter().filter(|limit| !limit.is_zero()).min();
        shortest.unwrap_or(self.response_timeout)
    }

    /// Looks at the clock: an end whose time has come, or the timer armed for the next one.
    fn inspect(&self, relay: &Relay, born: Instant, check: &mut Pin<Box<Sleep>>) -> Option<End> {
        let now = Instant::now();
        let life = born + self.settings.tunnel_life;
        let (quiet, end) = match relay.turn() {
            Turn::Kintone => (relay.moved() + self.response_timeout, End::Silent),
            Turn::Caller => (relay.moved() + self.settings.tunnel_idle, End::Idle),
        };
        let stalled = relay
            .caller_blocked()
            .map(|since| since + self.stall_timeout);
        if stalled.is_some_and(|at| at <= now) {
            return Some(End::CallerGone(Some(Detail::CallerStalled)));
        }
        if quiet <= now {
            return Some(end);
        }
        if life <= now {
            return Some(End::Life);
        }
        let yields = relay.moved() + self.settings.tunnel_yield;
        let next = [
            Some(quiet),
            Some(life),
            stalled,
            Some(yields).filter(|at| *at > now),
        ]
        .into_iter()
        .flatten()
        .fold(now + self.interval(), Instant::min);
        check.as_mut().reset(next);
        None
    }

    fn may_yield(&self, relay: &Relay) -> bool {
        let after = self.settings.tunnel_yield;
        !after.is_zero() && relay.turn() == Turn::Caller && relay.moved().elapsed() >= after
    }

    async fn close(mut self, end: End, turn: Turn) {
        let (outcome, detail) = match end {
            End::Closed => {
                self.exchange.ended(Outcome::Ok, None);
                return self.close_after_kintone().await;
            }
            End::CallerGone(detail) => {
                self.exchange.abandoned(Head::Given);
                self.exchange.ended(Outcome::CallerGone, detail);
                return self.read_without_caller(turn).await;
            }
            End::KintoneBroke => {
                // The caller must see a break, not an end.
                self.connection.break_off();
                (
                    Outcome::Refused(Code::UpstreamReset),
                    Some(Detail::ResponseReset),
                )
            }
            End::Idle => (Outcome::TunnelIdle, None),
            End::Yielded => (Outcome::TunnelIdle, Some(Detail::Yielded)),
            End::Life => (Outcome::TunnelLife, None),
            End::Silent => {
                self.connection.break_off();
                (
                    Outcome::Refused(Code::UpstreamTimeout),
                    Some(Detail::ResponseTimeout),
                )
            }
            End::Cut => (Outcome::Refused(Code::Draining), Some(Detail::DrainCut)),
        };
        self.exchange.ended(outcome, detail);
        self.let_go(turn);
    }

    /// Nothing is under way at kintone if its byte was the last; else the permit settles, and what
    /// kintone's host has not acknowledged is taken back, so that it does not come there later.
    fn let_go(mut self, turn: Turn) {
        self.exchange.record().permit = Some(self.permit.held());
        match turn {
            Turn::Caller => self.permit.finish(),
            Turn::Kintone => {
                // It fails only on a socket that has nothing to send any more.
                let _ = self.kintone.set_zero_linger();
                drop(self.permit);
            }
        }
    }

    /// kintone has closed and the caller has its bytes: the permit goes back at once, the caller
    /// gets a moment to close too.
    async fn close_after_kintone(self) {
        let Self {
            caller,
            kintone,
            open,
            permit,
            mut exchange,
            gauge,
            ..
        } = self;
        exchange.record().permit = Some(permit.held());
        permit.finish();
        drop((kintone, open, exchange, gauge));
        let closed = discard(&caller, usize::MAX);
        // A caller that keeps its side open is closed on.
        let _ = tokio::time::timeout(CALLER_CLOSE_WAIT, closed).await;
    }

    /// The caller is gone: kintone hears so, and its side is kept until it closes.
    async fn read_without_caller(self, turn: Turn) {
        // It fails only on a socket that is gone, which the reading finds out.
        let _ = SockRef::from(&self.kintone).shutdown(std::net::Shutdown::Write);
        let rest = discard(&self.kintone, READ_WITHOUT_CALLER_MAX);
        let seen = tokio::select! {
            biased;
            read = tokio::time::timeout(self.response_timeout, rest) => matches!(read, Ok(Ok(()))),
            () = self.drain.cutting() => false,
        };
        self.let_go(if seen { Turn::Caller } else { turn });
    }
}

/// Completes when a call of the account wants the permit.
async fn asked(yielding: &mut Option<YieldGuard>) {
    match yielding {
        Some(guard) => guard.asked().await,
        None => std::future::pending().await,
    }
}

/// Reads up to `limit` bytes and forgets them, until the sender closes.
async fn discard(from: &TcpStream, limit: usize) -> std::io::Result<()> {
    let mut read = 0;
    while read <= limit {
        from.readable().await?;
        let mut scrap = [0; 2048];
        let taken = from.try_io(Interest::READABLE, || {
            use std::io::Read as _;
            (&*SockRef::from(from)).read(&mut scrap)
        });
        match taken {
            Ok(0) => return Ok(()),
            Ok(count) => read += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::ErrorKind::FileTooLarge.into())
}
