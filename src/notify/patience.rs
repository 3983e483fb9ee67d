//! How long a mail is tried. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::failure::SendError;
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

/// How long a server is left alone after so many failures: as long as it asks for, too, up to the longest
/// wait.
pub(super) fn pause_after(error: &SendError, failures: u32, terms: SpoolTerms) -> Duration {
    let usual = wait_after(failures, terms).unsigned_abs();
    match error {
        SendError::Busy { wait, .. } => usual.max(*wait).min(terms.retry_max),
        SendError::Server(_)
        | SendError::Later(_)
        | SendError::Refused(_)
        | SendError::Never(_) => usual,
    }
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_left_alone_for_as_long_as_it_asks_up_to_the_longest_wait() {
        let secs = Duration::from_secs;
        let terms = SpoolTerms {
            retry: secs(30),
            retry_max: secs(300),
            ..crate::config::Notify::for_tests().spool
        };
        let busy = |wait| SendError::Busy {
            said: String::new(),
            wait: secs(wait),
        };
        for (error, failures, expected) in [
            (SendError::Server(String::new()), 0, 30),
            (SendError::Server(String::new()), 2, 120),
            (SendError::Server(String::new()), 9, 300),
            (busy(5), 0, 30),
            (busy(100), 0, 100),
            (busy(100), 2, 120),
            (busy(86_400), 0, 300),
        ] {
            assert_eq!(pause_after(&error, failures, terms), secs(expected));
        }
    }
}
