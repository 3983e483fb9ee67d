//! What operators are told as it changes.

use super::gate::Change;
use super::judge::{Answer, Finding};
use super::round::Heard;
use super::standing::Seen;
use crate::egress::source::Source;

/// A verdict has changed, or no echo answers any more.
pub(super) fn change(source: Source, change: Change) {
    let Source { published, bind } = source;
    match change.now {
        Seen::Other(seen) if change.before != change.now => tracing::error!(
            %published, %bind, %seen,
            "the internet sees another address than the published one: it is not used"
        ),
        Seen::Published if change.before != change.now => {
            tracing::info!(%published, %bind, "the internet sees the address as published");
        }
        Seen::Other(_) | Seen::Published | Seen::Unknown => {}
    }
    if change.fell_silent {
        tracing::error!(
            %published, %bind,
            "no echo says how the internet sees the address; the last verdict stands for unknown_for"
        );
    }
}

/// No echo has answered for so long that the last verdict stands no more.
pub(super) fn lapsed(source: Source) {
    let Source { published, bind } = source;
    tracing::error!(
        %published, %bind,
        "for unknown_for no echo has said how the internet sees the address: it is not used"
    );
}

/// Echoes that say something else than the verdict, or nothing.
pub(super) fn odd(source: Source, heard: &Heard) {
    let verdict = match heard.finding {
        Finding::Published => Some(source.published.0),
        Finding::Other(other) => Some(other),
        Finding::Nothing => None,
    };
    let answers = heard.answers.iter();
    for (echo, answer) in answers.filter_map(|(echo, answer)| Some((echo, (*answer)?))) {
        if verdict.is_none_or(|verdict| answer != Answer::Saw(verdict)) {
            let (published, bind) = (source.published, source.bind);
            tracing::warn!(%published, %bind, echo, %answer, "an echo is of no use");
        }
    }
}
