//! For operators: metrics, health, the status page and the API.
//!
//! It has its own thread and runtime, so that it answers when the proxy is saturated, and it knows
//! the rest of the gateway only through the closures of [`Admin`]. What changes something is an
//! [`Order`] sent over a channel; whoever wires the gateway carries it out.

pub use fleet::FleetOrder;
pub use notify::{Decision, HeldMails};
pub use order::{AfterDrain, Carried, Command, Order, Refusal};
pub use routes::{read_only_router, router};
pub use serve::{CONNECTIONS, spawn};
pub use state::{Admin, Readiness};

pub mod answers;
pub mod days;
pub mod fleet;
pub mod guard;
pub mod notify;
pub mod order;
pub mod page;
pub mod ports;
pub mod readiness;
pub mod routes;
pub mod serve;
pub mod state;

#[cfg(test)]
mod test_listener;
#[cfg(test)]
mod tests;
