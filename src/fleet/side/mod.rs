//! What hosts tell each other beside permits: a few opaque contents, one for each [`Topic`], in one row
//! a host.
//!
//! The row hangs on the same untrusted store as the ledger's, under `[fleet] redis_prefix` `:side:HOST`,
//! and goes over a connection of its own: however long it is, it never holds up a beat. Every
//! `[fleet] side_every`, shortened or lengthened by up to a tenth, a host reads all rows and hangs its
//! own up: two commands, whatever there is to say.
//!
//! A row has a version, a checksum and a length of at most `[fleet] side_rows`; what is none is left
//! aside and counted. Of two rows of a host the newer one holds, by the host's own stamp, so that a
//! store that was rolled back takes nothing back. Nothing here is needed for a limit to hold, and a
//! reader judges each content by itself: who can write into the store can forge it.

pub use driver::SideDriver;
pub use hearing::SideRow;
pub use topic::Topic;
pub use view::{SidePeer, SideView};

pub(super) use shared::Side;

mod code;
mod driver;
mod hearing;
mod shared;
mod topic;
mod view;
