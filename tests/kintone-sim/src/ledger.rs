//! What happened, in order: every socket that was accepted and every request that was seen.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::time::Instant;

/// How much of the past a simulator keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Every request with its headers and hashes, and every change of the number in process.
    #[default]
    Executions,
    /// Sums only, and no hashing of bodies: for load tests.
    Counts,
}

/// A moment: its place in the simulator's order of events, and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Place in the order of all events of this simulator.
    pub sequence: u64,
    /// The time on tokio's clock.
    pub at: Instant,
}

/// A snapshot of the past of a simulator.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Every request, in the order of their heads' arrival; empty under [`Keep::Counts`].
    pub executions: Vec<Execution>,
    /// Every accepted TCP connection, in order; [`Execution::socket`] is an index into it.
    pub sockets: Vec<Socket>,
    /// Sums, kept in either mode.
    pub totals: Totals,
}

impl Ledger {
    /// The source addresses that connections came from, with how many each.
    pub fn sources(&self) -> BTreeMap<IpAddr, u64> {
        let mut sources = BTreeMap::new();
        for socket in &self.sockets {
            *sources.entry(socket.peer.ip()).or_default() += 1;
        }
        sources
    }
}

/// Sums over all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests whose head arrived.
    pub requests: u64,
    /// Those that got a place in an account.
    pub admitted: u64,
    /// Those whose work was done.
    pub executed: u64,
    /// Those whose client was gone before it had the whole answer.
    pub client_left: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Connections that were closed although another request had come: it was never read.
    pub unread: u64,
}

/// One request as kintone saw it.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Index of its connection in [`Ledger::sockets`].
    pub socket: usize,
    /// Where it came from.
    pub peer: SocketAddr,
    /// The `Host` header as sent.
    pub host: String,
    /// The account it was for (lower case, without `.s` and port); empty when there is none of that name.
    pub domain: String,
    /// The method of the request line.
    pub method: String,
    /// The method that counts: `X-HTTP-Method-Override` of a POST.
    pub effective_method: String,
    /// Path as sent.
    pub path: String,
    /// Query as sent, without the question mark.
    pub query: String,
    /// Headers in the order and spelling of the wire. When a client pipelines, names are in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body that were read.
    pub body_length: u64,
    /// SHA-256 of those bytes, hex; empty when the body was not read.
    pub body_sha256: String,
    /// SHA-256 of the file in an upload's multipart body, hex.
    pub file_sha256: Option<String>,
    /// When its head had arrived.
    pub start: Stamp,
    /// When its place was given back and all but the last piece of its answer was on the wire; `None` while it runs.
    pub end: Option<Stamp>,
    /// Status of the answer; 0 when none was made.
    pub status: u16,
    /// Hash of the credentials it came with, hex; empty for none.
    pub auth: String,
    /// It got a place in the account.
    pub admitted: bool,
    /// Its work was done: a record was created, a query answered.
    pub executed: bool,
    /// Its client was gone before it had the whole answer.
    pub client_left: bool,
    /// The fault that was injected into it.
    pub fault: Option<&'static str>,
}

impl Execution {
    /// The values of a header in the order sent, whatever its spelling.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// One accepted TCP connection.
#[derive(Clone, Debug)]
pub struct Socket {
    /// Where it came from.
    pub peer: SocketAddr,
    /// Where it arrived.
    pub local: SocketAddr,
    /// The server name of its ClientHello, lower case.
    pub sni: Option<String>,
    /// When it was accepted.
    pub opened: Stamp,
    /// When it ended; `None` while it is open.
    pub closed: Option<Stamp>,
    /// Requests whose head arrived on it.
    pub requests: u64,
    /// The TLS handshake was completed.
    pub tls_ok: bool,
}

/// The book that [`Ledger`] is a copy of.
pub(crate) struct Book {
    pub(crate) keep: Keep,
    sequence: AtomicU64,
    entries: Mutex<Ledger>,
}

/// Where an execution stands in the book; `None` under [`Keep::Counts`].
pub(crate) type Line = Option<usize>;

impl Book {
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            keep,
            sequence: AtomicU64::new(0),
            entries: Mutex::default(),
        }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
            at: Instant::now(),
        }
    }

    pub(crate) fn snapshot(&self) -> Ledger {
        self.entries().clone()
    }

    pub(crate) fn open_socket(&self, peer: SocketAddr, local: SocketAddr) -> usize {
        let opened = self.stamp();
        let mut entries = self.entries();
        entries.sockets.push(Socket {
            peer,
            local,
            sni: None,
            opened,
            closed: None,
            requests: 0,
            tls_ok: false,
        });
        entries.sockets.len() - 1
    }

    pub(crate) fn socket(&self, socket: usize, change: impl FnOnce(&mut Socket)) {
        if let Some(socket) = self.entries().sockets.get_mut(socket) {
            change(socket);
        }
    }

    /// A head arrived.
    pub(crate) fn begin(&self, execution: impl FnOnce() -> Execution, socket: usize) -> Line {
        let execution = (self.keep == Keep::Executions).then(execution);
        let mut entries = self.entries();
        entries.totals.requests += 1;
        if let Some(socket) = entries.sockets.get_mut(socket) {
            socket.requests += 1;
        }
        execution.map(|execution| {
            entries.executions.push(execution);
            entries.executions.len() - 1
        })
    }

    /// Notes something about an execution, in its line and in the sums.
    pub(crate) fn note(&self, line: Line, note: impl FnOnce(&mut Totals, Option<&mut Execution>)) {
        let mut entries = self.entries();
        let Ledger {
            executions, totals, ..
        } = &mut *entries;
        note(totals, line.and_then(|line| executions.get_mut(line)));
    }

    /// The client of an execution did not get its whole answer.
    pub(crate) fn left(&self, line: Line) {
        self.note(line, |totals, execution| {
            totals.client_left += 1;
            if let Some(execution) = execution {
                execution.client_left = true;
            }
        });
    }

    fn entries(&self) -> MutexGuard<'_, Ledger> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
