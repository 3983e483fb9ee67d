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

/// Longest handshake message that rustls takes.
const MESSAGE_MAX: usize = 0xffff;

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
    if is_short(bytes) {
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
                    sni: hello.server_name().map(str::to_owned),
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

/// Whether a hello that is plausible so far has not come to its end, so that rustls, which would
/// read it from its beginning each time, need not be asked about every byte of a caller that sends
/// them singly. Only lengths are looked at; what is not plausible is left to rustls.
fn is_short(bytes: &[u8]) -> bool {
    // Type and length of the message (RFC 8446 section 4), as far as they have come.
    let mut head = [0; 4];
    let mut received = 0;
    let mut rest = bytes;
    while let &[kind, major, _, high, low, ref tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != 3 || !(1..=RECORD_PAYLOAD_MAX).contains(&length) {
            return false;
        }
        let Some((payload, next)) = tail.split_at_checked(length) else {
            return true;
        };
        for (byte, from) in head.iter_mut().skip(received).zip(payload) {
            *byte = *from;
        }
        received += length;
        let [_, message @ ..] = head;
        let message = message
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if received >= head.len() && (message > MESSAGE_MAX || received >= head.len() + message) {
            return false;
        }
        rest = next;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::crypto::aws_lc_rs;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// The first flight of a rustls client.
    fn hello(name: &str, alpn: &[&str]) -> Vec<u8> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn client(sni: Option<&str>, alpn: Alpn) -> Hello {
        Hello::Client {
            sni: sni.map(str::to_owned),
            alpn,
        }
    }

    /// The same handshake message in records of `size` bytes (RFC 8446 section 5.1).
    fn fragment(hello: &[u8], size: usize) -> Vec<u8> {
        let records = hello[5..].chunks(size);
        records
            .flat_map(|payload| {
                let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
                [&[HANDSHAKE, 3, 1, high, low], payload].concat()
            })
            .collect()
    }

    #[test]
    fn name_and_protocols_are_read() {
        let cases: [(&[&str], Alpn); 6] = [
            (&[], Alpn::None),
            (&["http/1.1"], Alpn::H1),
            (&["h2", "http/1.1"], Alpn::H2),
            (&["http/1.1", "h2"], Alpn::H2),
            (&["h2", "x"], Alpn::H2),
            (&["x"], Alpn::None),
        ];
        for (offered, alpn) in cases {
            let bytes = hello("ACME.cybozu.com", offered);
            let expected = client(Some("acme.cybozu.com"), alpn);
            assert_eq!(read_hello(&bytes), expected, "{offered:?}");
        }
        let mut upper = hello("acme.cybozu.com", &[]);
        let at = upper
            .windows(4)
            .position(|window| window == b"acme")
            .unwrap();
        upper[at..at + 4].copy_from_slice(b"ACME");
        let expected = client(Some("acme.cybozu.com"), Alpn::None);
        assert_eq!(read_hello(&upper), expected, "rustls lowers the case");
        let no_name = hello("192.0.2.1", &[]);
        assert_eq!(read_hello(&no_name), client(None, Alpn::None));
    }

    #[test]
    fn a_hello_may_come_byte_by_byte_and_in_any_records() {
        let whole = hello("acme.cybozu.com", &["h2"]);
        let expected = client(Some("acme.cybozu.com"), Alpn::H2);
        for bytes in [fragment(&whole, 1), fragment(&whole, 100), whole] {
            assert!(bytes.len() < HELLO_SIZE_MAX);
            for end in 0..bytes.len() {
                assert_eq!(read_hello(&bytes[..end]), Hello::Incomplete, "{end}");
            }
            assert_eq!(read_hello(&bytes), expected);
        }
    }

    #[test]
    fn what_follows_the_hello_does_not_matter() {
        let expected = client(Some("acme.cybozu.com"), Alpn::None);
        for next in [
            &b"\x14\x03\x03\x00\x01\x01"[..],
            b"\x17\x03\x03\x00\x02xx",
            b"\x17",
        ] {
            let bytes = [&hello("acme.cybozu.com", &[])[..], next].concat();
            assert_eq!(read_hello(&bytes), expected, "{next:?}");
        }
    }

    #[test]
    fn what_is_not_tls_is_told_by_its_first_byte() {
        for bytes in [
            &b"G"[..],
            b"SSH-2.0-x",
            b"\x80\x2e\x01\x03\x01",
            b"\x15\x03\x01",
        ] {
            assert_eq!(read_hello(bytes), Hello::NotTls, "{bytes:?}");
        }
        assert_eq!(read_hello(b""), Hello::Incomplete);
    }

    #[test]
    fn handshakes_that_are_no_hello_are_refused() {
        let mut server_hello = hello("acme.cybozu.com", &[]);
        server_hello[5] = 2;
        assert_eq!(read_hello(&server_hello), Hello::NotTls);
        // A record longer than there is, and a message longer than rustls takes.
        assert_eq!(read_hello(b"\x16\x03\x01\xff\xff\x01"), Hello::NotTls);
        assert_eq!(
            read_hello(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"),
            Hello::NotTls
        );
    }

    #[test]
    fn alerts_are_whole_records_that_a_client_understands() {
        for (alert, name) in [
            (FatalAlert::UnrecognizedName, "UnrecognisedName"),
            (FatalAlert::NoApplicationProtocol, "NoApplicationProtocol"),
        ] {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            let host = "acme.cybozu.com".try_into().unwrap();
            let mut client = ClientConnection::new(Arc::new(config), host).unwrap();
            client.read_tls(&mut &fatal_alert(alert)[..]).unwrap();
            let error = client.process_new_packets().unwrap_err();
            let rustls::Error::AlertReceived(received) = error else {
                panic!("{error}");
            };
            assert_eq!(format!("{received:?}"), name);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = read_hello(&bytes);
            let _ = read_hello(&[&[HANDSHAKE, 3, 1], &bytes[..]].concat());
        }

        #[test]
        fn no_damage_makes_it_panic(at in 0..300_usize, to: u8, end in 0..2000_usize) {
            let mut bytes = hello("acme.cybozu.com", &["h2", "http/1.1"]);
            let end = end.min(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
            let _ = read_hello(&bytes[..end]);
            let _ = read_hello(&bytes);
        }
    }
}
