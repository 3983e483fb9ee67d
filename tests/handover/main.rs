//! Calls that one host of a fleet hands to the other, since the account accepts only the other's
//! address: two gateways as the program that people run, in front of a kintone that turns every other
//! address away.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod broken;
mod connects;
mod doctor;
mod forward;
mod found;
mod hosts;
mod learned;
#[allow(dead_code, reason = "the store can more than these tests need")]
#[path = "../fleet/store.rs"]
mod store;
