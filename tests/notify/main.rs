//! People are told: a real gateway, a simulated kintone that refuses, a real mail server.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod alone;
mod episodes;
mod held;
mod hook;
mod hosts;
mod outage;
#[allow(dead_code, reason = "these tests need little of a pair")]
#[path = "../fleet/pair.rs"]
mod pair;
mod restart;
#[path = "../e2e/schema.rs"]
mod schema;
mod server;
#[allow(dead_code, reason = "these tests need little of a site")]
#[path = "../crash/site.rs"]
mod site;
#[allow(dead_code, reason = "these tests need little of a store")]
#[path = "../fleet/store.rs"]
mod store;
mod verbs;
mod webhook;
