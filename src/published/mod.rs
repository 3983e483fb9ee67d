//! For customers: the addresses that they allow, as a page and as feeds, and how slowly that list
//! changes.
//!
//! [`judge()`] decides, from the configuration, from what was published last ([`memory`]) and from the
//! time, which addresses are on the [`list`] in which state; the gateway uses the active ones alone.
//! [`documents`] renders the list, once for each change: [`serve`] answers with what was rendered,
//! and `kintone-egress addresses` writes the same. [`publisher`] ties these together and keeps the
//! memory on disk ([`store`]). Hosts tell each other their memories ([`share`]). [`evidence`] says from which addresses connections left.

pub use documents::{Document, Site};
pub use judge::{Alarm, judge};
pub use list::{Entry, List};
pub use memory::Memory;
pub use publisher::{Publisher, current, in_force};
pub use serve::router;
pub use store::write_all;

pub mod calendar;
pub mod documents;
pub mod evidence;
pub mod judge;
pub mod list;
pub mod memory;
pub mod publisher;
pub mod serve;
pub mod share;
pub mod store;

mod feeds;
mod language;
mod page;

#[cfg(test)]
mod tests;
