//! The series of each caller, resolved ahead so that a call's end hashes no label.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use prometheus::{IntCounter, IntGauge};

use super::labels::{Alpn, Handshake};
use super::metrics::Metrics;
use super::record::Record;
use crate::config::Callers;
use crate::model::{CallerName, Code, Credential, Mode, Outcome, Table};

/// The label of callers that did not prove who they are, and of those who called before that
/// could be asked.
pub const UNKNOWN: &str = "unknown";

/// The name of a caller without credentials.
pub const ANONYMOUS: &str = "anonymous";

/// The modes, and one place for `unknown`.
pub const MODES: usize = Mode::ALL.len() + 1;

/// Every outcome: five of its own and one a code.
const OUTCOMES: usize = 5 + Code::ALL.len();

/// Tokens of one caller that have a place of their own here; further ones are looked up.
const TOKENS: usize = 8;

/// The callers of the configuration, `anonymous` and `unknown`.
#[derive(Debug)]
pub struct CallerTable {
    named: RwLock<Table<CallerName, Arc<CallerSeries>>>,
    unknown: Arc<CallerSeries>,
}

/// The series of one caller. Each is made when it first counts.
#[derive(Debug)]
pub struct CallerSeries {
    label: Box<str>,
    requests: [[OnceLock<IntCounter>; OUTCOMES]; MODES],
    authentications: [OnceLock<IntCounter>; TOKENS + 2],
    tunnels: [OnceLock<IntCounter>; Alpn::ALL.len()],
    tunnels_open: OnceLock<IntGauge>,
    handshakes: [OnceLock<IntCounter>; Handshake::ALL.len()],
    inspected: OnceLock<IntGauge>,
}

impl CallerTable {
    /// The table of these callers.
    #[must_use]
    pub fn new(callers: &Callers) -> Self {
        let table = Self {
            named: RwLock::default(),
            unknown: Arc::new(CallerSeries::new(UNKNOWN)),
        };
        table.reload(callers);
        table
    }

    /// Adds callers that are new. Those that are gone keep their series until a restart: their
    /// last calls are still to end, and their counts stay true.
    pub fn reload(&self, callers: &Callers) {
        let anonymous = CallerName::parse(ANONYMOUS);
        let names = callers.named.iter().map(|caller| &caller.name);
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        for name in names.chain(&anonymous) {
            if !named.contains_key(name) {
                named.insert(name.clone(), Arc::new(CallerSeries::new(name.as_str())));
            }
        }
    }

    /// The series of this caller; those of `unknown` if there is none of that name.
    #[must_use]
    pub fn of(&self, caller: Option<&CallerName>) -> Arc<CallerSeries> {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        let series = caller.and_then(|caller| named.get(caller));
        Arc::clone(series.unwrap_or(&self.unknown))
    }

    /// Counts a call that ended.
    pub fn count(&self, metrics: &Metrics, record: &Record) {
        // What a refused call says about its caller is not proved.
        let proved = record
            .caller
            .as_ref()
            .filter(|_| record.outcome != Outcome::Refused(Code::AuthenticationRequired));
        let series = self.of(proved);
        series
            .request(metrics, mode_of(record), record.outcome)
            .inc();
        if let (Some(_), Some(credential)) = (proved, record.credential) {
            series.authentication(metrics, credential).inc();
        }
    }
}

impl CallerSeries {
    fn new(label: &str) -> Self {
        Self {
            label: label.into(),
            requests: Default::default(),
            authentications: Default::default(),
            tunnels: Default::default(),
            tunnels_open: OnceLock::new(),
            handshakes: Default::default(),
            inspected: OnceLock::new(),
        }
    }

    fn request(&self, metrics: &Metrics, mode: Option<Mode>, outcome: Outcome) -> &IntCounter {
        let place = match outcome {
            Outcome::Ok => 0,
            Outcome::KintoneError => 1,
            Outcome::CallerGone => 2,
            Outcome::TunnelIdle => 3,
            Outcome::TunnelLife => 4,
            Outcome::Refused(code) => 5 + code as usize,
        };
        self.requests[mode_place(mode)][place].get_or_init(|| {
            let labels = [&*self.label, mode_label(mode), outcome.label()];
            metrics.requests_total.with_label_values(&labels)
        })
    }

    fn authentication(&self, metrics: &Metrics, credential: Credential) -> IntCounter {
        let place = match credential {
            Credential::Certificate => Some(0),
            Credential::Network => Some(1),
            Credential::Token(number) => Some(1 + usize::from(number)),
        };
        let make = || {
            metrics
                .caller_authentications_total
                .with_label_values(&[&*self.label, &credential.to_string()])
        };
        match place.and_then(|place| self.authentications.get(place)) {
            Some(place) => place.get_or_init(make).clone(),
            None => make(),
        }
    }

    /// How many tunnels of this caller are open.
    pub fn tunnels_open(&self, metrics: &Metrics) -> &IntGauge {
        self.tunnels_open
            .get_or_init(|| metrics.tunnels_open.with_label_values(&[&*self.label]))
    }

    /// How many inspected connections of this caller are open.
    pub fn inspected(&self, metrics: &Metrics) -> &IntGauge {
        self.inspected.get_or_init(|| {
            metrics
                .inspected_connections
                .with_label_values(&[&*self.label])
        })
    }

    /// Handshakes of this caller that ended so.
    pub fn handshakes(&self, metrics: &Metrics, result: Handshake) -> &IntCounter {
        self.handshakes[result as usize].get_or_init(|| {
            metrics
                .inspect_handshakes_total
                .with_label_values(&[&*self.label, result.label()])
        })
    }

    /// Tunnels of this caller that offered `alpn`.
    pub fn tunnels(&self, metrics: &Metrics, alpn: Alpn) -> &IntCounter {
        self.tunnels[alpn as usize].get_or_init(|| {
            metrics
                .tunnels_total
                .with_label_values(&[&*self.label, alpn.label()])
        })
    }
}

/// The mode under which a call is counted: unknown for one that was refused as malformed, since
/// what it says of itself is not to be trusted (contract, section 8).
#[must_use]
pub fn mode_of(record: &Record) -> Option<Mode> {
    let malformed = record.outcome == Outcome::Refused(Code::BadRequest)
        && record.status.is_none_or(|status| status >= 400);
    record.mode.filter(|_| !malformed)
}

/// The place of a mode among [`MODES`].
#[must_use]
pub fn mode_place(mode: Option<Mode>) -> usize {
    mode.map_or(MODES - 1, |mode| mode as usize)
}

/// The word for a mode that may be unknown.
#[must_use]
pub fn mode_label(mode: Option<Mode>) -> &'static str {
    mode.map_or(UNKNOWN, Mode::label)
}
