//! The quotas as their users meet them, on paused time: crowds, floods, outside load, departures.

#![allow(missing_docs, unreachable_pub)]

#[path = "quota/balance.rs"]
mod balance;
#[path = "quota/circuit.rs"]
mod circuit;
#[path = "quota/crowd.rs"]
mod crowd;
#[path = "quota/deadlines.rs"]
mod deadlines;
#[path = "quota/fairness.rs"]
mod fairness;
#[path = "quota/house.rs"]
mod house;
#[path = "quota/pressure.rs"]
mod pressure;
#[path = "quota/restart.rs"]
mod restart;
#[path = "quota/tunnels.rs"]
mod tunnels;
