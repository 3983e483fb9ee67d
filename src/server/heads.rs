//! Follows a caller's bytes from head to head, for what hyper does not tell of one: it drops a
//! Content-Length that stands beside a Transfer-Encoding and a fragment of the target, and makes an
//! empty path a `/`.
//!
//! ```text
//!   Line ──empty line──▶ Line of the next head        no body
//!    │ ▲                 Body, by its length     ──▶ Line
//!    │ │                 Chunk ◀──▶ Data ──0──▶ Trailers ──▶ Line
//!    │ └─ fields         Lost                         CONNECT, or a fault
//!    └─ faults
//! ```
//!
//! It decides nothing about where a message ends: hyper does, by the same rules. Where those rules
//! make hyper refuse, this is lost, and the connection ends.

use crate::model::Detail;

/// Of a line that comes in pieces, this much is kept: the fields and chunk sizes that are looked at
/// are shorter, unless somebody hides something.
const LINE_KEPT: usize = 64;

/// The slashes of `https://HOST HTTP/1.1`.
const SLASHES_WITHOUT_PATH: usize = 3;

/// The caller's side of a connection.
#[derive(Debug)]
pub(super) struct Heads {
    at: At,
    line: Line,
    head: Head,
    /// Heads that have come whole.
    whole: u64,
    /// Bytes of the first line of the last of them.
    last_line_length: usize,
    fault: Option<(u64, Detail)>,
    /// The last head that was an OPTIONS without a path.
    about_server: u64,
}

/// Where in the caller's bytes we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a head, or before one.
    Head,
    /// In a body, with so many bytes to come.
    Body(u64),
    /// At the line with a chunk's size.
    Chunk,
    /// In a chunk, with so many bytes to come, its line end among them.
    Data(u64),
    /// Behind the last chunk.
    Trailers,
    /// No head follows that anybody may read.
    Lost,
}

/// The line that is arriving.
#[derive(Debug, Default)]
struct Line {
    kept: Vec<u8>,
    length: usize,
}

/// What a head has said so far.
#[derive(Debug, Default)]
struct Head {
    /// Bytes of the first line.
    line_length: usize,
    /// The first line is whole.
    begun: bool,
    connect: bool,
    options: bool,
    fragment: bool,
    query: bool,
    slashes: usize,
    length: Option<u64>,
    chunked: bool,
}

impl Heads {
    pub(super) fn new() -> Self {
        Self {
            at: At::Head,
            line: Line::default(),
            head: Head::default(),
            whole: 0,
            last_line_length: 0,
            fault: None,
            about_server: 0,
        }
    }

    /// Bytes have come.
    pub(super) fn received(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.at {
                At::Lost => return,
                At::Body(left) => match skip(&mut bytes, left) {
                    0 => self.at = At::Head,
                    left => self.at = At::Body(left),
                },
                At::Data(left) => match skip(&mut bytes, left) {
                    0 => self.at = At::Chunk,
                    left => self.at = At::Data(left),
                },
                At::Head | At::Chunk | At::Trailers => self.lines(&mut bytes),
            }
        }
    }

    /// Bytes of the first line of the head that follows the `calls`th, as far as it has come.
    pub(super) const fn line_length(&self, calls: u64) -> usize {
        if self.whole > calls {
            self.last_line_length
        } else {
            self.head.line_length
        }
    }

    /// Part of a head has come.
    pub(super) const fn is_amid_head(&self) -> bool {
        matches!(self.at, At::Head) && (self.head.line_length > 0 || self.line.length > 0)
    }

    /// Part of a body has come: of a call that was answered before, if none is at hand.
    pub(super) const fn is_in_body(&self) -> bool {
        matches!(
            self.at,
            At::Body(_) | At::Chunk | At::Data(_) | At::Trailers
        )
    }

    /// What is wrong with the head of the `call`th call, where hyper would not tell.
    pub(super) fn fault_of(&self, call: u64) -> Option<Detail> {
        self.fault
            .filter(|(of, _)| *of == call)
            .map(|(_, fault)| fault)
    }

    /// Whether the `call`th call is an OPTIONS whose target has neither path nor query; unknown, and
    /// so `false`, for one of several that were sent at once.
    pub(super) const fn is_about_server(&self, call: u64) -> bool {
        self.about_server == call
    }

    /// Takes up to one line.
    fn lines(&mut self, bytes: &mut &[u8]) {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
        *bytes = rest;
        if self.at == At::Head && !self.head.begun {
            self.head.first_line(piece);
        }
        self.line.length += piece.len();
        if end.is_none() {
            return self.line.keep(piece);
        }
        let Line { mut kept, length } = std::mem::take(&mut self.line);
        if length == piece.len() {
            self.line_ends(trim_end(piece), length);
        } else {
            let room = LINE_KEPT.saturating_sub(kept.len());
            kept.extend_from_slice(&piece[..piece.len().min(room)]);
            self.line_ends(trim_end(&kept), length);
        }
    }

    /// A line is whole: `line` is its beginning, `length` counts its end, too.
    fn line_ends(&mut self, line: &[u8], length: usize) {
        match self.at {
            At::Chunk => {
                self.at = match chunk_size(line) {
                    Some(0) => At::Trailers,
                    Some(size) => size.checked_add(2).map_or(At::Lost, At::Data),
                    None => At::Lost,
                }
            }
            At::Trailers if line.is_empty() => self.at = At::Head,
            At::Head if !self.head.begun && line.is_empty() => self.head = Head::default(),
            At::Head if !self.head.begun => {
                self.head.begun = true;
                self.head.connect = line.starts_with(b"CONNECT ");
                self.head.options = line.starts_with(b"OPTIONS ");
            }
            At::Head if line.is_empty() => self.head_ends(),
            At::Head => self.field(line, length),
            At::Trailers | At::Body(_) | At::Data(_) | At::Lost => {}
        }
    }

    fn field(&mut self, line: &[u8], length: usize) {
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
            return;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let hidden = length > line.len() + 2;
        if name.eq_ignore_ascii_case(b"content-length") {
            match parse(value, 10) {
                Some(size) if !hidden => self.head.length = Some(size),
                // hyper refuses it, unless a Transfer-Encoding makes it look away.
                Some(_) | None => self.head.length = Some(u64::MAX),
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.head.chunked = true;
        }
    }

    fn head_ends(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.whole += 1;
        self.last_line_length = head.line_length;
        if head.options && !head.query && head.slashes == SLASHES_WITHOUT_PATH {
            self.about_server = self.whole;
        }
        let ambiguous = head.chunked && head.length.is_some();
        let fault = match (head.fragment, ambiguous) {
            (_, true) => Some(Detail::FramingAmbiguous),
            (true, false) => Some(Detail::Fragment),
            (false, false) => None,
        };
        if let Some(fault) = fault {
            self.fault = Some((self.whole, fault));
        }
        self.at = match head.length {
            _ if fault.is_some() || head.connect => At::Lost,
            _ if head.chunked => At::Chunk,
            None | Some(0) => At::Head,
            Some(length) => At::Body(length),
        };
    }
}

impl Head {
    /// Takes a piece of the first line, with its end if that has come.
    fn first_line(&mut self, piece: &[u8]) {
        for byte in piece {
            match byte {
                b'#' => self.fragment = true,
                b'?' => self.query = true,
                b'/' => self.slashes += 1,
                _ => {}
            }
        }
        self.line_length += piece.len() - usize::from(piece.ends_with(b"\n"));
    }
}

impl Line {
    fn keep(&mut self, piece: &[u8]) {
        let room = LINE_KEPT.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
    }
}

/// Skips up to `left` bytes; how many are still to come.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *bytes = &bytes[here..];
    left - here as u64
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The size at the beginning of a chunk's line (RFC 9112 section 7.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    parse(&line[..digits.count()], 16)
}

fn parse(digits: &[u8], radix: u32) -> Option<u64> {
    let unsigned = digits.iter().all(|byte| char::from(*byte).is_digit(radix));
    let text = std::str::from_utf8(digits).ok().filter(|_| unsigned)?;
    u64::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n";
    const BOTH: &str =
        "POST https://a/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// The call whose head is at fault, and how; the same whatever the pieces.
    fn fault(text: &str) -> Option<(u64, Detail)> {
        let mut found = None;
        for size in [1, 2, 3, 7, 50, text.len()] {
            let mut heads = Heads::new();
            for piece in text.as_bytes().chunks(size) {
                heads.received(piece);
            }
            assert!(size == 1 || heads.fault == found, "pieces of {size}");
            found = heads.fault;
        }
        found
    }

    #[test]
    fn both_lengths_are_found_in_either_order_and_any_case() {
        let ambiguous = |call| Some((call, Detail::FramingAmbiguous));
        assert_eq!(fault(BOTH), ambiguous(1));
        let turned = "POST https://a/ HTTP/1.1\ntRANSFER-encoding: chunked\ncontent-LENGTH: 1\n\n";
        assert_eq!(fault(turned), ambiguous(1));
        let hidden = format!(
            "POST https://a/ HTTP/1.1\r\nContent-Length: {}5\r\nTransfer-Encoding: chunked\r\n\r\n",
            " ".repeat(200)
        );
        assert_eq!(fault(&hidden), ambiguous(1));
        assert_eq!(fault(GET), None);
    }

    #[test]
    fn every_body_is_followed_to_the_next_head() {
        let length = format!(
            "POST https://a/ HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            BOTH.len()
        );
        let chunked = "POST https://a/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = format!("{:X};x=y\r\n{BOTH}\r\n0\r\nTrailer: #\r\n\r\n", BOTH.len());
        let text = format!("\r\n\r\n{GET}{length}{BOTH}{chunked}{chunks}{GET}{BOTH}{BOTH}");
        assert_eq!(fault(&text), Some((5, Detail::FramingAmbiguous)));
        let fragment = format!("{GET}GET https://a/#b HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(fault(&fragment), Some((2, Detail::Fragment)));
    }

    #[test]
    fn what_follows_a_connect_is_no_head() {
        let text = format!("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n{BOTH}");
        assert_eq!(fault(&text), None);
    }

    #[test]
    fn an_options_without_a_path_is_told_from_one_with() {
        for (target, expected) in [
            ("OPTIONS https://a", true),
            ("OPTIONS https://a/", false),
            ("OPTIONS https://a?b", false),
            ("GET https://a", false),
        ] {
            let mut heads = Heads::new();
            heads.received(format!("{GET}{target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            assert!(!heads.is_about_server(1));
            assert_eq!(heads.is_about_server(2), expected, "{target}");
        }
    }

    #[test]
    fn it_knows_where_it_is() {
        let mut heads = Heads::new();
        heads.received(b"\r\nGET https://a/ HT");
        assert!(heads.is_amid_head() && heads.line_length(0) == 17);
        heads.received(b"TP/1.1\r\nContent-Length: 2\r\n\r\na");
        assert!(!heads.is_amid_head() && heads.is_in_body());
        heads.received(b"b");
        assert!(!heads.is_amid_head() && !heads.is_in_body());
    }
}
