//! What echoes say of the addresses, for operators.

use super::state::Running;
use crate::egress::AddressSnapshot;
use crate::egress::verify::{Answer, Seen, Verification};
use crate::telemetry::{EchoView, SeenWord, VerificationView};

/// What operators must know of it.
pub(super) fn warnings(running: &Running) -> Vec<String> {
    let addresses = running.egress.addresses();
    let wanted = addresses.iter().filter(|address| address.is_wanted());
    let mut warnings: Vec<String> = wanted.filter_map(warning).collect();
    let config = running.config.load();
    if config.verify.is_none() {
        let addresses = config.addresses.iter();
        let translated = addresses.filter(|address| address.is_translated());
        let translated: Vec<_> = translated
            .map(|address| address.published.to_string())
            .collect();
        if !translated.is_empty() {
            warnings.push(format!(
                "{} leave as others than what is bound here, and nobody asks whether as published: \
                 switch [verify] on",
                translated.join(", ")
            ));
        }
    }
    warnings
}

fn warning(address: &AddressSnapshot) -> Option<String> {
    let (published, bind) = (address.published, address.bind);
    let verification = address.verification.as_ref()?;
    let silent = verification.silent_for.map(|silent| silent.as_secs());
    match (verification.seen, silent) {
        (Seen::Other(seen), _) => Some(format!(
            "{published} (bind {bind}) leaves as {seen}: it is not used; put the translation right"
        )),
        (Seen::Unknown, None) => Some(format!(
            "{published} (bind {bind}) waits for an echo: it is not used yet"
        )),
        (Seen::Unknown, Some(silent)) => Some(format!(
            "{published} (bind {bind}) is not used: for {silent} s no echo has said how it leaves; \
             see the echoes in /api/v1/addresses"
        )),
        (Seen::Published, Some(silent)) => Some(format!(
            "{published} (bind {bind}): for {silent} s no echo has said how it leaves; the last verdict \
             stands for [verify] unknown_for"
        )),
        (Seen::Published, None) => None,
    }
}

/// It as the admin listener shows it.
pub(super) fn view(verification: &Verification) -> VerificationView {
    let (seen, seen_as) = match verification.seen {
        Seen::Unknown => (SeenWord::Unknown, None),
        Seen::Published => (SeenWord::Published, None),
        Seen::Other(other) => (SeenWord::Other, Some(other)),
    };
    let echoes = verification.answers.iter();
    VerificationView {
        seen,
        seen_as,
        proven_at: verification.proven_at,
        silent: verification.silent_for,
        echoes: echoes
            .map(|(echo, answer)| EchoView {
                echo: echo.clone(),
                saw: match answer {
                    Answer::Saw(seen) => Some(*seen),
                    Answer::Nothing(_) => None,
                },
                trouble: match answer {
                    Answer::Saw(_) => None,
                    Answer::Nothing(trouble) => Some(trouble.to_string()),
                },
            })
            .collect(),
    }
}
