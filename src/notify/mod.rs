//! Telling people: many failures of one kind make one episode, which is told when it begins and when
//! it ends.
//!
//! A call that ends goes through the [`feed`], which never makes it wait; [`sign`] says what it shows
//! of each [`matter`], and [`episode`] when that begins and ends. The [`clerk`] hears it all,
//! what the other hosts of the fleet saw too, and has those told who can mend it, after
//! the [`brake`], which holds what may be our own fault; a [`letter`] in both languages becomes a
//! [`mail`] in the [`spool`] on the disk, and [`post`] brings it to the server by [`smtp`]; what
//! operators are told goes as a [`notice`] to their webhook too, by [`hook`]. All that decides is pure; what
//! the clerk must know of the rest of the gateway it asks its [`surroundings`].

pub use clerk::Clerk;
pub use desk::{Desk, Event, Inbox, open};
pub use feed::{Feed, Switch};
pub use surroundings::Surroundings;

pub mod announce;
pub mod brake;
pub mod clerk;
pub mod desk;
pub mod episode;
pub mod failure;
pub mod feed;
pub mod hook;
pub mod label;
pub mod letter;
pub mod mail;
pub mod matter;
pub mod moment;
pub mod notice;
pub mod post;
pub mod sign;
pub mod smtp;
pub mod spool;
pub mod surroundings;

mod company;
mod contacts;
mod draft;
mod english;
mod index;
mod japanese;
mod job;
mod memory;
mod patience;
mod send;
mod teller;
mod words;
