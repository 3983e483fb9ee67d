//! What a row of the table says.

use crate::kintone::Then;

/// One rule: what is sent, what must come back, what must and must not arrive at kintone.
///
/// In every text, `{a}` stands for the row's own account, `{std}` for a Host and good credentials,
/// `{auth}` for the credentials alone.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub rule: &'static str,
    /// The section that asks for it, or `hardening`, or the contract.
    pub source: &'static str,
    pub send: &'static [u8],
    pub expect: Expect,
}

#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// The gateway's own answer; nothing reaches kintone.
    Refused {
        status: u16,
        code: &'static str,
        detail: &'static str,
        after: After,
    },
    /// A call that kintone gets and answers.
    Passed(Passed),
}

/// How a call must have arrived at kintone.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    /// The request line; any if empty.
    pub line: &'static str,
    /// Lines of the head, name and all.
    pub has: &'static [&'static str],
    /// Names, in lower case, that no line has.
    pub lacks: &'static [&'static str],
    /// The body, without the chunks' framing.
    pub body: &'static [u8],
    /// How kintone's 200 begins on its way back; any if empty.
    pub answer_has: &'static [&'static str],
    pub after: After,
}

/// What becomes of the caller's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Keep,
    Close,
}

/// What kintone says, and what must become of it.
#[derive(Debug, Clone, Copy)]
pub struct Reaction {
    pub rule: &'static str,
    pub source: &'static str,
    /// The request; `POST` with a body if empty.
    pub send: &'static [u8],
    pub reply: &'static [u8],
    pub then: Then,
    pub outcome: Outcome,
    /// Whether the connection to kintone carries the next call too.
    pub reused: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// The answer passes, whole.
    Whole {
        status: u16,
        /// Lines of the head, names in lower case.
        has: &'static [&'static str],
        lacks: &'static [&'static str],
        body: &'static [u8],
    },
    /// 502 `GW_UPSTREAM_RESET` with that detail.
    Refused(&'static str),
    /// The head passes and then the connection ends, before the answer is whole.
    Cut,
}

/// A call that passes; rows say only what differs.
pub const PASSED: Passed = Passed {
    line: "",
    has: &[],
    lacks: &[],
    body: b"",
    answer_has: &[],
    after: After::Keep,
};

/// A malformed or ambiguous request: 400, and the connection closes.
pub const fn bad(
    rule: &'static str,
    source: &'static str,
    detail: &'static str,
    send: &'static [u8],
) -> Row {
    Row {
        rule,
        source,
        send,
        expect: Expect::Refused {
            status: 400,
            code: "GW_BAD_REQUEST",
            detail,
            after: After::Close,
        },
    }
}

/// A refusal of another kind.
pub const fn refused(
    rule: &'static str,
    source: &'static str,
    (status, code, detail): (u16, &'static str, &'static str),
    after: After,
    send: &'static [u8],
) -> Row {
    let expect = Expect::Refused {
        status,
        code,
        detail,
        after,
    };
    Row {
        rule,
        source,
        send,
        expect,
    }
}

/// A call that reaches kintone.
pub const fn passed(
    rule: &'static str,
    source: &'static str,
    send: &'static [u8],
    passed: Passed,
) -> Row {
    Row {
        rule,
        source,
        send,
        expect: Expect::Passed(passed),
    }
}

impl Expect {
    /// What becomes of the caller's connection.
    pub const fn after(&self) -> After {
        match self {
            Self::Refused { after, .. } | Self::Passed(Passed { after, .. }) => *after,
        }
    }
}
