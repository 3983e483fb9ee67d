//! How long a mail is tried. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::label::Label;
use crate::config::SpoolTerms;

/// Whether a mail has waited for so long that it is given up.
pub(super) fn is_too_old(label: &Label, terms: SpoolTerms, now: Timestamp) -> bool {
    now.duration_since(label.created.max(label.due)) > signed(terms.give_up)
}

/// How long after so many attempts the next one comes.
pub(super) fn wait_after(attempts: u32, terms: SpoolTerms) -> SignedDuration {
    let wait = terms.retry.saturating_mul(1 << attempts.min(16));
    signed(wait.min(terms.retry_max))
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}
