//! What the internet sees: each address asks echoes, from that very address, as which one it leaves.
//!
//! An echo is a server that answers a caller's address as text. `judge` says what a round of
//! answers means, `standing` what is known of an address over time; both are pure. [`Verifier`] asks
//! (`round`, `echo`) at the start, whenever an address comes into use or back to this host, and then at
//! least once in each interval, and shuts or opens the gate that every call passes. It asks for
//! connections that have just been made, too, which carry no call before (`vouch`). What was proven is
//! kept on the disk (`kept`), so that a restart while no echo answers does not take a host out.

pub use driver::Verifier;
pub use echo::Trouble;
pub use gate::Verification;
pub use judge::{Answer, Finding};
pub use round::Found;
pub use standing::Seen;

pub(super) use gate::Gate;
pub(super) use round::Around;
pub(super) use rules::Rules;
pub(super) use vouch::{Ticket, Word};

mod driver;
mod echo;
mod gate;
mod judge;
mod kept;
mod round;
mod rules;
mod say;
mod standing;
mod vouch;
