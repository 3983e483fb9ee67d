//! Permits shared with other hosts.
//!
//! Every host owns a fixed part of each account's permits, its reserve, and the parts together are
//! never more than there are. What it does not need it lends to another host for a time: it takes the
//! permits away from itself first and tells after. So no message, lost, late, repeated or old, can
//! make the hosts use more than there is; what they cost is capacity, for a while.
//!
//! [`ledger`] is that protocol and knows neither clock nor network: time, rows and what is in use go
//! in, rows and shares come out. [`row`] is what hosts tell each other, [`exchange`] the board on
//! which they hang it. [`Driver`] beats: it reads, lets the ledger think, keeps and hangs up. [`side`]
//! is what hosts tell each other beside permits.

pub mod code;
pub mod exchange;
pub mod ledger;
pub mod moment;
pub mod row;
pub mod share;
pub mod side;

pub use driver::{Driver, Keep};
pub use fleet::{Fleet, FleetView, OrderError, StoreView};

mod budget;
mod desk;
mod driver;
#[expect(
    clippy::module_inception,
    reason = "the fleet, as the rest of the program sees it"
)]
mod fleet;
