//! What the laboratory shares with the tests on loopback: their caller, and what must always hold.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a part of the test programs, of which the laboratory needs some"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[path = "../../support/caller.rs"]
pub mod caller;
#[path = "../../support/invariants.rs"]
pub mod invariants;

/// The account that calls go to unless a scenario says otherwise.
pub const ACME: &str = "acme.cybozu.com";

/// The token of the caller `events`; no output may contain it.
pub const TOKEN: &str = "canary-proxy-token-5f1c";

/// kintone's API token of the demo app; no output may contain it.
pub const API_TOKEN: &str = "demo-token";

/// The value of `Proxy-Authorization` of this proxy user name with [`TOKEN`].
pub fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{TOKEN}")))
}
