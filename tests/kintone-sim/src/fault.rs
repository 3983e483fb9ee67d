//! Faults: what may go wrong at kintone, and when.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::tls::Shown;

/// A fault to inject into the requests or connections that match.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Only this account; `None`: any.
    #[serde(default)]
    pub domain: Option<String>,
    /// Only this path, or with a `*` at the end, only paths that begin so. Does not apply to handshakes.
    #[serde(default)]
    pub path: Option<String>,
    /// Only this effective method. Does not apply to handshakes.
    #[serde(default)]
    pub method: Option<String>,
    /// How many matching requests pass before the first one that is hit.
    #[serde(default)]
    pub skip: u64,
    /// How many are hit; `None`: all until [`crate::Sim::clear_faults`].
    #[serde(default)]
    pub count: Option<u64>,
    /// What happens to them.
    pub kind: FaultKind,
}

impl Fault {
    /// Hits the next request (or handshake), whatever it is.
    pub fn once(kind: FaultKind) -> Self {
        Self {
            domain: None,
            path: None,
            method: None,
            skip: 0,
            count: Some(1),
            kind,
        }
    }

    /// Hits every request (or handshake) until the faults are cleared.
    pub fn always(kind: FaultKind) -> Self {
        Self {
            count: None,
            ..Self::once(kind)
        }
    }
}

/// What goes wrong. "Not executed": the request takes no place and nothing is done. "Executed": it takes its place and its
/// work is done as ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultKind {
    /// 429 GAIA_TO04, running = limit + 1. Not executed.
    TooManyRequests,
    /// 502 with the HTML of overload or maintenance. Not executed.
    Overload,
    /// 503 with the text "Service Unavailable". Not executed.
    Unavailable,
    /// A kintone-shaped JSON error (legacy answers have status 520). Not executed.
    Json {
        /// Status of the answer.
        status: u16,
        /// The `code`, for example `GAIA_DA02`.
        code: String,
        /// The `message`.
        message: String,
    },
    /// Any status and body, made outside of kintone. Not executed.
    Status {
        /// Status of the answer.
        status: u16,
        /// Its `Content-Type`.
        content_type: String,
        /// Its body.
        body: String,
    },
    /// Any status, headers and bytes, made outside of kintone. Not executed.
    Verbatim {
        /// Status of the answer.
        status: u16,
        /// Its headers, names and values.
        headers: Vec<(String, String)>,
        /// Its body.
        body: Vec<u8>,
    },
    /// 302 to `/login`. Not executed.
    RedirectToLogin,
    /// 200 with a page of HTML. Not executed.
    HtmlPage,
    /// This answer before the request's body was read. The connection closes after it, unless the body had come by then. Not executed.
    EarlyAnswer {
        /// Status of the answer.
        status: u16,
    },
    /// 417 to a request with `Expect: 100-continue`, its body unread. Others are served. Not executed.
    ExpectationFailed,
    /// `Expect: 100-continue` is served without the interim answer. Executed.
    NoContinue,
    /// RST instead of an answer, as soon as the head has arrived. Not executed.
    ResetBeforeAnswer,
    /// RST instead of an answer, after the work was done. Executed.
    ResetAfterExecuting,
    /// Bytes that are not HTTP instead of an answer, then the connection closes. Executed.
    Garbage,
    /// The head of the answer comes this much later than the work is done, its place still held. Executed.
    SlowHead {
        /// Milliseconds.
        wait_ms: u64,
    },
    /// The answer's body comes in pieces. Executed.
    SlowBody {
        /// Bytes in each piece.
        bytes: usize,
        /// Milliseconds before each piece.
        tick_ms: u64,
    },
    /// RST after the answer's head and half of its body. Executed.
    HalfBodyThenReset,
    /// RST after so many bytes of the answer, head included. Executed.
    ResetAfterBytes {
        /// Bytes of the answer that are sent.
        bytes: u64,
    },
    /// After so many bytes of the answer, head included, nothing more comes, until the client goes. Executed.
    StallAfterBytes {
        /// Bytes of the answer that are sent.
        bytes: u64,
    },
    /// The whole body comes, but in chunks whose end never comes, until the client goes. Executed.
    AnswerThenStall,
    /// A body without end. Executed.
    EndlessBody,
    /// The connection is closed after the answer, without `Connection: close`. Executed.
    CloseAfterAnswer,
    /// The connection is closed after the answer and this long without a request. Executed.
    CloseIdle {
        /// Milliseconds after the answer.
        after_ms: u64,
    },
    /// A certificate for another name.
    TlsWrongName,
    /// A certificate that has expired.
    TlsExpired,
    /// A certificate of an authority that nobody trusts.
    TlsUntrusted,
    /// A fatal alert instead of a ServerHello.
    TlsAlert,
    /// RST when the ClientHello has arrived.
    TlsReset,
    /// Nothing after the ClientHello, until the client goes.
    TlsStall,
    /// The handshake goes on only this much later than the ClientHello comes.
    TlsSlow {
        /// Milliseconds.
        wait_ms: u64,
    },
}

/// Where in the life of a connection a fault is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Handshake,
    Call,
}

impl FaultKind {
    /// Its name, as in the control port's JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooManyRequests => "too_many_requests",
            Self::Overload => "overload",
            Self::Unavailable => "unavailable",
            Self::Json { .. } => "json",
            Self::Status { .. } => "status",
            Self::RedirectToLogin => "redirect_to_login",
            Self::HtmlPage => "html_page",
            Self::EarlyAnswer { .. } => "early_answer",
            Self::ExpectationFailed => "expectation_failed",
            Self::NoContinue => "no_continue",
            Self::ResetBeforeAnswer => "reset_before_answer",
            Self::ResetAfterExecuting => "reset_after_executing",
            Self::Garbage => "garbage",
            Self::SlowHead { .. } => "slow_head",
            Self::SlowBody { .. } => "slow_body",
            Self::HalfBodyThenReset => "half_body_then_reset",
            Self::ResetAfterBytes { .. } => "reset_after_bytes",
            Self::StallAfterBytes { .. } => "stall_after_bytes",
            Self::AnswerThenStall => "answer_then_stall",
            Self::EndlessBody => "endless_body",
            Self::CloseAfterAnswer => "close_after_answer",
            Self::CloseIdle { .. } => "close_idle",
            Self::TlsWrongName => "tls_wrong_name",
            Self::TlsExpired => "tls_expired",
            Self::TlsUntrusted => "tls_untrusted",
            Self::TlsAlert => "tls_alert",
            Self::TlsReset => "tls_reset",
            Self::TlsStall => "tls_stall",
            Self::TlsSlow { .. } => "tls_slow",
            Self::Verbatim { .. } => "verbatim",
        }
    }

    fn stage(&self) -> Stage {
        match self.shown() {
            Some(_) => Stage::Handshake,
            None if matches!(self, Self::TlsReset | Self::TlsStall | Self::TlsSlow { .. }) => {
                Stage::Handshake
            }
            None => Stage::Call,
        }
    }

    /// The certificate that a handshake with this fault is answered with.
    pub(crate) fn shown(&self) -> Option<Shown> {
        if *self == Self::TlsWrongName {
            Some(Shown::WrongName)
        } else if *self == Self::TlsExpired {
            Some(Shown::Expired)
        } else if *self == Self::TlsUntrusted {
            Some(Shown::Untrusted)
        } else if *self == Self::TlsAlert {
            Some(Shown::Nothing)
        } else {
            None
        }
    }
}

/// The faults that are armed.
#[derive(Default)]
pub(crate) struct Faults {
    armed: AtomicUsize,
    list: Mutex<Vec<Armed>>,
}

struct Armed {
    fault: Fault,
    seen: u64,
}

impl Faults {
    pub(crate) fn arm(&self, mut fault: Fault) {
        fault.domain = fault.domain.map(|domain| domain.to_ascii_lowercase());
        let mut list = self.list();
        list.push(Armed { fault, seen: 0 });
        self.armed.store(list.len(), Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        let mut list = self.list();
        list.clear();
        self.armed.store(0, Ordering::Release);
    }

    /// The fault that hits a request, or a handshake (with an empty path and method). The first that was armed wins; the others
    /// do not count it as seen.
    pub(crate) fn hit(
        &self,
        stage: Stage,
        domain: &str,
        path: &str,
        method: &str,
    ) -> Option<FaultKind> {
        if self.armed.load(Ordering::Acquire) == 0 {
            return None;
        }
        for armed in self.list().iter_mut() {
            if !armed.fault.matches(stage, domain, path, method) {
                continue;
            }
            let place = armed.seen;
            if armed
                .fault
                .count
                .is_some_and(|count| place >= armed.fault.skip.saturating_add(count))
            {
                continue;
            }
            armed.seen += 1;
            if place >= armed.fault.skip {
                return Some(armed.fault.kind.clone());
            }
        }
        None
    }

    fn list(&self) -> MutexGuard<'_, Vec<Armed>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    fn matches(&self, stage: Stage, domain: &str, path: &str, method: &str) -> bool {
        let named =
            |want: &Option<String>, have: &str| want.as_deref().is_none_or(|want| want == have);
        if self.kind.stage() != stage || !named(&self.domain, domain) {
            return false;
        }
        if stage == Stage::Handshake {
            return true;
        }
        self.path
            .as_deref()
            .is_none_or(|want| path_fits(want, path))
            && named(&self.method, method)
    }
}

/// Whether a path is the one named, or begins as a name with a `*` at its end says.
pub(crate) fn path_fits(want: &str, path: &str) -> bool {
    want.strip_suffix('*')
        .map_or(want == path, |start| path.starts_with(start))
}
