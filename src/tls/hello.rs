//! The first bytes of a tunnel: a ClientHello, judged before any of it goes out.
//!
//! rustls reads it; there is no parser of ours.

use rustls::server::Acceptor;

/// What the bytes of a caller are, as far as they have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// The beginning of a ClientHello; more must come.
    Incomplete,
    /// A complete ClientHello.
    Client {
        /// The server name it asks for, lower case; `None` without one (or with an IP address,
        /// which RFC 6066 section 3 does not allow there).
        sni: Option<String>,
        /// What it offers to speak.
        alpn: Alpn,
    },
    /// Not TLS, or a ClientHello that no server of today would accept.
    NotTls,
}

/// What a ClientHello offers to speak (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// No list, or one without HTTP in it: HTTP/1.1 by custom.
    None,
    /// HTTP/1 but not HTTP/2.
    H1,
    /// HTTP/2, perhaps among others: many calls at once may run inside.
    H2,
}

/// The fatal alerts that refuse a tunnel after its `200`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FatalAlert {
    /// The server name is absent or not the CONNECT host (RFC 6066 section 3).
    UnrecognizedName = 112,
    /// HTTP/2 is offered where it is not taken (RFC 7301 section 3.2).
    NoApplicationProtocol = 120,
}

/// Bytes within which a ClientHello must be complete, record headers included. Real ones have
/// 200 to 2,000; more is [`crate::model::Detail::HelloTooLarge`].
pub const HELLO_SIZE_MAX: usize = 32 << 10;

/// Content type of handshake records (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;

/// Longest payload of a plaintext record (RFC 8446 section 5.1).
const RECORD_PAYLOAD_MAX: usize = 1 << 14;

impl Alpn {
    /// The word used in metrics: `none`, `h1` or `h2`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::H1 => "h1",
            Self::H2 => "h2",
        }
    }

    /// Whether HTTP/2 is offered.
    #[must_use]
    pub const fn offers_h2(self) -> bool {
        matches!(self, Self::H2)
    }
}

/// Judges everything that has come from the caller so far. Call it again with more bytes while it
/// says [`Hello::Incomplete`]; stop at [`HELLO_SIZE_MAX`].
#[must_use]
pub fn read_hello(bytes: &[u8]) -> Hello {
    match bytes.first() {
        None => return Hello::Incomplete,
        Some(&HANDSHAKE) => {}
        Some(_) => return Hello::NotTls,
    }
    if is_first_record_short(bytes) {
        return Hello::Incomplete;
    }
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return Hello::NotTls;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return Hello::Client {
                    sni: hello.server_name().map(str::to_ascii_lowercase),
                    alpn: hello.alpn().map_or(Alpn::None, judge_alpn),
                };
            }
            Err(_) => return Hello::NotTls,
        }
    }
    Hello::Incomplete
}

/// A plaintext record with a fatal alert, as sent before any key is known (RFC 8446 section 6).
#[must_use]
pub const fn fatal_alert(alert: FatalAlert) -> [u8; 7] {
    const ALERT: u8 = 0x15;
    const FATAL: u8 = 2;
    [ALERT, 3, 3, 0, 2, FATAL, alert as u8]
}

fn judge_alpn<'a>(protocols: impl Iterator<Item = &'a [u8]>) -> Alpn {
    protocols.fold(Alpn::None, |seen, protocol| match (protocol, seen) {
        (b"h2", _) | (_, Alpn::H2) => Alpn::H2,
        (b"http/1.1" | b"http/1.0", _) => Alpn::H1,
        _ => seen,
    })
}

/// Whether the first record is still on its way, so that rustls need not be asked about every
/// byte of a caller that sends them singly. What is not plausible is left to rustls to refuse.
fn is_first_record_short(bytes: &[u8]) -> bool {
    let &[_, major, _, high, low, ..] = bytes else {
        return bytes.get(1).is_none_or(|major| *major == 3);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    major == 3 && length <= RECORD_PAYLOAD_MAX && bytes.len() < 5 + length
}
