//! What SREs deploy from `infra/`, tried with the programs that will read it: the gateway itself,
//! systemd, logrotate and Prometheus. `make setup` installs them.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod dashboard;
#[allow(dead_code, reason = "an echo that is always right needs little of it")]
#[path = "../verify/echo.rs"]
mod echo;
mod example;
mod host;
mod live;
mod load;
mod pair;
mod process;
mod prometheus;
mod rules;
mod runbooks;
#[allow(
    dead_code,
    reason = "a fleet of two quiet hosts needs little of a store"
)]
#[path = "../fleet/store.rs"]
mod store;
mod tools;
mod unit;
