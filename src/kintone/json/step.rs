//! The names that somebody asks about.

/// One step from the root towards a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the member's name in lower case")]
pub enum Step {
    App,
    Apps,
    Api,
    Code,
    Error,
    Id,
    Method,
    Payload,
    Requests,
    Results,
    /// An element of an array.
    Element,
    /// A member with any other name.
    Other,
}

impl Step {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"app" => Self::App,
            b"apps" => Self::Apps,
            b"api" => Self::Api,
            b"code" => Self::Code,
            b"error" => Self::Error,
            b"id" => Self::Id,
            b"method" => Self::Method,
            b"payload" => Self::Payload,
            b"requests" => Self::Requests,
            b"results" => Self::Results,
            _ => Self::Other,
        }
    }
}
