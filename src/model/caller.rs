//! Who calls, in which mode, how urgently, and for what purpose.

use std::fmt;
use std::sync::Arc;

use super::account::string_like;

/// The name of an internal service, as the configuration gives it: `A-Z a-z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerName(Arc<str>);

/// The identifier of one call, shown in headers, refusals and logs: 20 of `0-9a-v`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 20]);

/// What a call is for, as its caller says: `[a-z-]{1,24}`. At most 16 a caller are told apart, the
/// rest count as `other`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Purpose(Arc<str>);

/// The way in that a call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Absolute form; the gateway originates TLS.
    Forward,
    /// CONNECT answered with our own TLS; each call inside is seen.
    Inspect,
    /// CONNECT, TLS end to end.
    Tunnel,
}

/// How urgent a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for it.
    Interactive,
    /// It can wait for minutes, and leaves the interactive reserve alone.
    Batch,
}

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A token; which of the configured list, counted from 1.
    Token(u8),
    /// A client certificate.
    Certificate,
    /// The network it calls from, without a token.
    Network,
}

impl CallerName {
    /// Checks and wraps a name; `None` if it is empty, longer than 64 bytes, or has another
    /// character than `A-Za-z0-9._-`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        ((1..=64).contains(&name.len()) && name.bytes().all(allowed)).then(|| Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Purpose {
    /// Longest purpose, in bytes.
    pub const LENGTH_MAX: usize = 24;

    /// Checks and wraps a purpose; `None` unless it is `[a-z-]{1,24}`.
    #[must_use]
    pub fn parse(purpose: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b == b'-';
        ((1..=Self::LENGTH_MAX).contains(&purpose.len()) && purpose.bytes().all(allowed))
            .then(|| Self(purpose.into()))
    }

    /// The purpose.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RequestId {
    /// The identifier of no call: what an answer carries that belongs to none.
    pub const ZERO: Self = Self([b'0'; 20]);

    /// Spells 100 random bits in the alphabet `0-9a-v`.
    #[must_use]
    pub fn from_random(bits: u128) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
        let mut rest = bits;
        Self(std::array::from_fn(|_| {
            let digit = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
            digit
        }))
    }

    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let spelled = <[u8; 20]>::try_from(text.as_bytes()).ok()?;
        let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'v');
        spelled.iter().all(is_digit).then_some(Self(spelled))
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Mode {
    /// Every mode, in the order of the contract.
    pub const ALL: [Self; 3] = [Self::Forward, Self::Inspect, Self::Tunnel];

    /// The word used in configuration, metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Inspect => "inspect",
            Self::Tunnel => "tunnel",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.label() == word)
    }
}

impl Priority {
    /// Both, the more urgent first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];

    /// The word used in configuration, headers, metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }

    /// The priority of that name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.label() == word)
    }
}

impl Credential {
    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "certificate" => Some(Self::Certificate),
            "network" => Some(Self::Network),
            number => number.parse().ok().map(Self::Token),
        }
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(number) => write!(f, "{number}"),
            Self::Certificate => f.write_str("certificate"),
            Self::Network => f.write_str("network"),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

string_like!(CallerName, Purpose);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_spell_their_bits() {
        assert_eq!(RequestId::from_random(0).as_str(), "0".repeat(20));
        assert_eq!(RequestId::from_random(u128::MAX).as_str(), "v".repeat(20));
        assert_ne!(RequestId::from_random(1), RequestId::from_random(2));
        let id = RequestId::from_random(0x1234_5678_9abc);
        assert_eq!(RequestId::parse(id.as_str()), Some(id));
        for bad in ["", "0", &"w".repeat(20), &"0".repeat(21)] {
            assert_eq!(RequestId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn words_are_read_back_as_they_are_written() {
        for mode in Mode::ALL {
            assert_eq!(Mode::parse(mode.label()), Some(mode));
        }
        for priority in Priority::ALL {
            assert_eq!(Priority::parse(priority.label()), Some(priority));
        }
        for credential in [
            Credential::Token(2),
            Credential::Certificate,
            Credential::Network,
        ] {
            assert_eq!(Credential::parse(&credential.to_string()), Some(credential));
        }
        assert_eq!(Mode::parse("Forward"), None);
    }

    #[test]
    fn purposes_have_a_closed_alphabet() {
        assert!(Purpose::parse("voicemail").is_some());
        assert!(Purpose::parse("").is_none());
        assert!(Purpose::parse("Voice").is_none());
        assert!(Purpose::parse(&"a".repeat(25)).is_none());
    }
}
