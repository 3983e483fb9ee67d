//! The protocol by which hosts share permits: time, rows and use go in; rows and shares come out.
//!
//! # How it works
//! Every host owns its reserve, a fixed part of each account's permits; all reserves together are what
//! the account has. A host that needs less lends: it takes the permits away from itself first and then
//! tells of the loan in its row. The borrower may start calls on it until a moment that is counted from
//! one of its own beats; as long as the lender sees it listing the loan, the loan is prolonged. What
//! the borrower does not list any more it has given back.
//!
//! # Why it is safe
//! Without loans every host stays within its reserve. For each loan, the permits are away from the
//! lender at every instant at which a call that began on it may be at kintone: calls begin before the
//! borrower's end, which is `loan` after its beat; the lender saw that beat later and counts `loan`, the
//! longest that a call can last, and the difference of the clocks from then ([`Rule::KeepAway`]). They
//! come back earlier only if the borrower says that it has no calls on them, and cannot take the loan
//! again; or if kintone's count, taken when none can begin any more, shows how many are left. Rows may
//! be lost, late, repeated, out of order, rolled back: each of the [`Rule`]s says which of that it
//! answers, and tests break each. Only a forged row could do harm.
//!
//! # How it is driven
//! One task per process, for each beat, in this order:
//!
//! 1. read the rows of all hosts from the store, this host's own among them;
//! 2. then read the clock, `now`: a lender counts from no earlier than its borrower's beat. Give each
//!    row to [`Ledger::hear`], and [`Ledger::learn`] what operators said;
//! 3. call [`Ledger::beat`]: it asks the quota, tells it its shares and returns a row;
//! 4. if there is something to keep, write it to disk; if that fails, publish nothing;
//! 5. publish the row. If that fails, nothing is to be done: the next one says the same.
//!
//! The first beat comes before the first call is let through, with or without rows: it tells the quota
//! what an earlier start has lent. After that, a beat is due every second, every 200 ms while [`Beat::pace`] says so, and soon after another host
//! has nudged. Missing beats cost capacity alone, and so does a store that is away; beat all the same,
//! without rows, for loans end.

pub use beat::{Beat, Pace};
pub use hear::Heard;
pub use kept::{Before, Kept, Left};
pub use rules::Rule;
pub use standing::Access;
pub use state::{Ledger, Setup};
pub use terms::Terms;
pub use view::{AccountView, PeerView, View};

mod beat;
mod borrow;
mod entry;
mod hear;
mod kept;
mod lend;
mod members;
mod peer;
mod rules;
mod standing;
mod state;
mod terms;
mod view;
mod want;

#[cfg(test)]
#[allow(unused_imports, reason = "only the model checker asks for it")]
pub(crate) use lend::Will;

#[cfg(test)]
mod tests;
