//! What is done to the gateway. A scenario is one function: it lets callers call, does something,
//! and says what must follow. What must hold in all of them is checked by `Lab::close`.

mod addresses;
mod chaos;
mod links;
mod names;
mod process;
mod verified;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::lab::Lab;
use crate::traffic::Outcome;

/// One scenario.
pub(crate) struct Scenario {
    /// Its name on the command line and in the report.
    pub(crate) name: &'static str,
    /// What its calls may come to; anything else is a fault.
    pub(crate) allowed: &'static [Outcome],
    /// What is done. Begins with a gateway that has not started.
    pub(crate) run: for<'a> fn(&'a mut Lab<'_>) -> Running<'a>,
}

/// A scenario under way.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// How long a fault is felt after its end: connects in vain and answers that never come are given
/// up after 2 s, permits of calls whose end was not seen come back after 1 s.
const OVER: Duration = Duration::from_secs(4);

/// A call that was under way when its connection to kintone was taken away; cut, where the head of
/// its answer had been passed on.
const TAKEN_AWAY: [Outcome; 4] = [
    Outcome::TIMEOUT,
    Outcome::RESET,
    Outcome::Cut,
    Outcome::TunnelCut,
];

/// Every outcome of a way to kintone that is bad: not reached, or taken away, and the calls that
/// wait behind those.
const BAD_WAY: &[Outcome] = &[
    Outcome::Ok,
    Outcome::CONNECT,
    Outcome::TLS,
    Outcome::NO_PERMIT,
    TAKEN_AWAY[0],
    TAKEN_AWAY[1],
    TAKEN_AWAY[2],
    TAKEN_AWAY[3],
];

/// Outcomes while one address comes and goes, and there is always another.
const ADDRESS_MOVES: &[Outcome] = &[
    Outcome::Ok,
    Outcome::NO_PERMIT,
    TAKEN_AWAY[0],
    TAKEN_AWAY[1],
    TAKEN_AWAY[2],
    TAKEN_AWAY[3],
];

/// Outcomes while both do.
const ADDRESSES_MOVE: &[Outcome] = &[
    Outcome::Ok,
    Outcome::UNAVAILABLE,
    Outcome::NO_PERMIT,
    TAKEN_AWAY[0],
    TAKEN_AWAY[1],
    TAKEN_AWAY[2],
    TAKEN_AWAY[3],
];

/// All scenarios, in the order in which they run.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "turns",
        allowed: &[Outcome::Ok],
        run: |lab| Box::pin(addresses::take_turns(lab)),
    },
    Scenario {
        name: "address-leaves",
        allowed: ADDRESS_MOVES,
        run: |lab| Box::pin(addresses::one_leaves(lab)),
    },
    Scenario {
        name: "no-address",
        allowed: ADDRESSES_MOVE,
        run: |lab| Box::pin(addresses::all_leave(lab)),
    },
    Scenario {
        name: "start-without",
        allowed: &[Outcome::Ok, Outcome::UNAVAILABLE],
        run: |lab| Box::pin(addresses::start_without(lab)),
    },
    Scenario {
        name: "addresses-flap",
        allowed: ADDRESSES_MOVE,
        run: |lab| Box::pin(addresses::flap(lab)),
    },
    Scenario {
        name: "host-renumbered",
        allowed: &[Outcome::Ok],
        run: |lab| Box::pin(addresses::host_renumbered(lab)),
    },
    Scenario {
        name: "dns-aaaa",
        allowed: &[Outcome::Ok, Outcome::DNS],
        run: |lab| Box::pin(names::only_ipv6(lab)),
    },
    Scenario {
        name: "dns-lies",
        allowed: &[
            Outcome::Ok,
            Outcome::FORBIDDEN,
            Outcome::DNS,
            Outcome::TLS,
            Outcome::TunnelCut,
        ],
        run: |lab| Box::pin(names::lies(lab)),
    },
    Scenario {
        name: "dns-rebinding",
        allowed: &[Outcome::Ok, Outcome::FORBIDDEN],
        run: |lab| Box::pin(names::rebinding(lab)),
    },
    Scenario {
        name: "dns-outage",
        allowed: &[Outcome::Ok],
        run: |lab| Box::pin(names::outage(lab)),
    },
    Scenario {
        name: "carrier-lost",
        allowed: BAD_WAY,
        run: |lab| Box::pin(links::carrier_lost(lab)),
    },
    Scenario {
        name: "link-down",
        allowed: BAD_WAY,
        run: |lab| Box::pin(links::link_down(lab)),
    },
    Scenario {
        name: "packets-lost",
        allowed: BAD_WAY,
        run: |lab| Box::pin(links::packets_lost(lab)),
    },
    Scenario {
        name: "half-of-kintone",
        allowed: &[Outcome::Ok],
        run: |lab| Box::pin(links::half_of_kintone(lab)),
    },
    Scenario {
        name: "resets",
        allowed: BAD_WAY,
        run: |lab| Box::pin(links::resets(lab)),
    },
    Scenario {
        name: "blackhole",
        allowed: BAD_WAY,
        run: |lab| Box::pin(links::blackhole(lab)),
    },
    Scenario {
        name: "address-blackholed",
        allowed: BAD_WAY,
        run: |lab| Box::pin(links::address_blackholed(lab)),
    },
    Scenario {
        name: "reloads",
        allowed: &[Outcome::Ok],
        run: |lab| Box::pin(process::reloads(lab)),
    },
    Scenario {
        name: "restarts",
        allowed: &[
            Outcome::Ok,
            Outcome::DRAINING,
            Outcome::NoGateway,
            Outcome::Cut,
        ],
        run: |lab| Box::pin(process::restarts(lab)),
    },
    Scenario {
        name: "kills",
        allowed: &[
            Outcome::Ok,
            Outcome::NoGateway,
            Outcome::Cut,
            Outcome::TunnelCut,
        ],
        run: |lab| Box::pin(process::kills(lab)),
    },
    Scenario {
        name: "verify-start",
        allowed: &[Outcome::Ok, Outcome::UNAVAILABLE],
        run: |lab| Box::pin(verified::wrong_from_the_start(lab)),
    },
    Scenario {
        name: "verify-turns",
        allowed: &[
            Outcome::Ok,
            Outcome::UNAVAILABLE,
            Outcome::NO_PERMIT,
            TAKEN_AWAY[0],
            TAKEN_AWAY[1],
            TAKEN_AWAY[2],
            TAKEN_AWAY[3],
        ],
        run: |lab| Box::pin(verified::turns_wrong(lab)),
    },
    Scenario {
        name: "verify-failover",
        allowed: ADDRESS_MOVES,
        run: |lab| Box::pin(verified::comes_back_wrong(lab)),
    },
    Scenario {
        name: "verify-echoes",
        allowed: &[Outcome::Ok, Outcome::UNAVAILABLE],
        run: |lab| Box::pin(verified::echoes_lie(lab)),
    },
    Scenario {
        name: "verify-restarts",
        allowed: &[
            Outcome::Ok,
            Outcome::UNAVAILABLE,
            Outcome::DRAINING,
            Outcome::NoGateway,
            Outcome::Cut,
        ],
        run: |lab| Box::pin(verified::restarts(lab)),
    },
    Scenario {
        name: "chaos",
        allowed: chaos::ALLOWED,
        run: |lab| Box::pin(chaos::everything(lab)),
    },
];
