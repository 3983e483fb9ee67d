//! A caller that writes HTTP/2 frame by frame, and need not keep to its rules (RFC 9113 section 4.1).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::support::ACME;
use crate::support::caller::Caller;

/// Longest wait for a frame that must come.
const PATIENCE: Duration = Duration::from_secs(20);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PROTOCOL_ERROR: u32 = 1;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// HPACK's one byte for `:status: 200` (RFC 7541 appendix A).
pub const STATUS_200: u8 = 0x88;

/// A frame as it came.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a `RST_STREAM` or a `GOAWAY`.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(code)
    }

    /// The pairs of a `SETTINGS`.
    pub fn settings(&self) -> Vec<(u16, u32)> {
        let pairs = self.payload.chunks(6);
        let pair = |pair: &[u8]| {
            (
                u16::from_be_bytes(pair[..2].try_into().expect("two bytes")),
                u32::from_be_bytes(pair[2..].try_into().expect("four bytes")),
            )
        };
        pairs.map(pair).collect()
    }
}

/// A connection inside a CONNECT of its own, behind the preface.
pub struct Frames {
    tls: TlsStream<TcpStream>,
}

impl Frames {
    pub async fn open(caller: &Caller) -> Self {
        let caller = caller.clone().offering(&[b"h2"]);
        let tls = caller.secured(ACME).await.expect("let in");
        let mut frames = Self { tls };
        let preface = frames
            .tls
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await;
        preface.expect("a live socket");
        frames
            .send(&frame(SETTINGS, 0, 0, &[]))
            .await
            .expect("a live socket");
        frames
    }

    pub async fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        self.tls.write_all(frames).await?;
        self.tls.flush().await
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.read())
            .await
            .expect("a frame or the end")
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.tls.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.tls.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().expect("four bytes"));
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        })
    }

    /// The next frame of that kind; `None` if the connection ends before.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// How the stream is answered: by a head, or by a reset.
    pub async fn answer(&mut self, stream: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection lives on");
            if frame.stream == stream && matches!(frame.kind, HEADERS | RST_STREAM) {
                return frame;
            }
        }
    }
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of literals, none indexed (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            push_length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// RFC 7541 section 5.1, with a prefix of seven bits.
fn push_length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(length as u8);
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// A good GET's fields, and these.
pub fn get<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", ACME),
        (":path", "/k/v1/records.json?app=1"),
        ("x-cybozu-api-token", crate::support::API_TOKEN),
    ];
    fields.extend_from_slice(more);
    fields
}

/// A whole request without a body.
pub fn request(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
}
