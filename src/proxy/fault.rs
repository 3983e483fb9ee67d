//! What can go wrong with a caller's body.

/// Why a body could not be sent to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The caller's connection broke, or its framing did.
    #[error("the caller's body broke off")]
    Cut(#[source] hyper::Error),
    /// It sent nothing for `stall_timeout`.
    #[error("the caller stopped sending its body")]
    Stalled,
    /// Another try reads it, or nobody wants it any more.
    #[error("this try of the call is over")]
    Over,
}

/// How a body stands when its call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Cut,
    Stalled,
}

/// Where the caller's next request begins cannot be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// How far a caller's body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// More may come.
    Open,
    /// All of it has come and gone.
    Whole,
    /// It broke off.
    Cut,
    /// The caller stopped sending.
    Stalled,
}
