//! A JSON answer read while it passes, compressed or not.
//!
//! The pieces are decompressed for reading only, and bounded: what passes on to the caller are the
//! pieces themselves. `flate2` with `miniz_oxide` and `brotli-decompressor` because both are fed
//! piece by piece, and neither has code in C.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use crate::kintone::json::{Progress, Scanner, Seek};

/// How much of an answer is read once it is decompressed. kintone's errors have less than 1 KiB,
/// with many fields at fault some more.
const DECODED_MAX: usize = 64 << 10;

/// Largest window of a brotli stream that is read, as a power of two: the usual one of servers, for
/// which up to 4 MiB are taken while an answer is looked at. The format allows 16 MiB.
const BROTLI_WINDOW_MAX: u8 = 22;

/// What brotli puts out at a time, in bytes.
const BROTLI_PIECE: usize = 4 << 10;

/// How an answer is compressed (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// `gzip`.
    Gzip,
    /// `deflate`: in zlib's frame, or without, as some servers send it.
    Deflate,
    /// `br`.
    Brotli,
    /// Another one, or several.
    Unknown,
}

impl Coding {
    /// That which the headers of an answer name.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut named = headers.get_all(CONTENT_ENCODING).iter();
        let (Some(value), None) = (named.next(), named.next()) else {
            return if headers.contains_key(CONTENT_ENCODING) {
                Self::Unknown
            } else {
                Self::Identity
            };
        };
        let value = value.as_bytes().trim_ascii();
        let is = |name: &[u8]| value.eq_ignore_ascii_case(name);
        if value.is_empty() || is(b"identity") {
            Self::Identity
        } else if is(b"gzip") || is(b"x-gzip") {
            Self::Gzip
        } else if is(b"deflate") {
            Self::Deflate
        } else if is(b"br") {
            Self::Brotli
        } else {
            Self::Unknown
        }
    }
}

/// Reads an answer piece by piece on behalf of `S`.
pub(super) struct CodedReader<S: Seek> {
    decoder: Decoder<Sink<S>>,
    /// What is fed no more because it cannot be understood; what was read until then counts.
    is_broken: bool,
}

/// How far an answer was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Nothing has come.
    Nothing,
    /// More is needed.
    Open,
    /// Whoever asks knows all that the answer says; or it is no JSON.
    Enough,
    /// Compressed in a way that is not understood, broken, or too long.
    Unreadable,
}

enum Decoder<W: Write> {
    /// Until the first byte, which may say more than the headers do.
    Waiting(Coding, Option<W>),
    Identity(W),
    Gzip(Box<GzDecoder<W>>),
    Zlib(Box<ZlibDecoder<W>>),
    Deflate(Box<DeflateDecoder<W>>),
    Brotli(Box<DecompressorWriter<W>>),
    /// Nothing can be read.
    Unknown,
}

struct Sink<S> {
    scanner: Scanner,
    seek: S,
    decoded: usize,
}

impl<S: Seek> CodedReader<S> {
    pub(super) fn new(coding: Coding, seek: S) -> Self {
        let sink = Sink {
            scanner: Scanner::default(),
            seek,
            decoded: 0,
        };
        Self {
            decoder: Decoder::Waiting(coding, Some(sink)),
            is_broken: false,
        }
    }

    /// Reads the next piece, of any size.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        if piece.is_empty() || matches!(self.read(), Read::Enough | Read::Unreadable) {
            return;
        }
        if let Decoder::Waiting(coding, sink) = &mut self.decoder {
            self.decoder = Decoder::open(*coding, piece[0], sink.take());
        }
        self.is_broken = self.decoder.push(piece).is_err();
    }

    pub(super) fn read(&self) -> Read {
        let progress = self.sink().map(|sink| sink.scanner.progress());
        match (&self.decoder, progress) {
            (Decoder::Waiting(..), _) => Read::Nothing,
            (_, Some(Progress::Complete | Progress::Stopped | Progress::Malformed)) => Read::Enough,
            (_, None) => Read::Unreadable,
            (_, Some(Progress::Open)) if self.is_broken => Read::Unreadable,
            (_, Some(Progress::Open)) => Read::Open,
        }
    }

    /// Who asks, with what was found so far.
    pub(super) fn seek(&self) -> Option<&S> {
        self.sink().map(|sink| &sink.seek)
    }

    fn sink(&self) -> Option<&Sink<S>> {
        match &self.decoder {
            Decoder::Waiting(_, sink) => sink.as_ref(),
            Decoder::Unknown => None,
            Decoder::Identity(sink) => Some(sink),
            Decoder::Gzip(decoder) => Some(decoder.get_ref()),
            Decoder::Zlib(decoder) => Some(decoder.get_ref()),
            Decoder::Deflate(decoder) => Some(decoder.get_ref()),
            Decoder::Brotli(decoder) => Some(decoder.get_ref()),
        }
    }
}

impl<W: Write> Decoder<W> {
    fn open(coding: Coding, first: u8, sink: Option<W>) -> Self {
        let Some(sink) = sink else {
            return Self::Unknown;
        };
        match coding {
            Coding::Identity => Self::Identity(sink),
            Coding::Gzip => Self::Gzip(Box::new(GzDecoder::new(sink))),
            Coding::Deflate if is_zlib(first) => Self::Zlib(Box::new(ZlibDecoder::new(sink))),
            Coding::Deflate => Self::Deflate(Box::new(DeflateDecoder::new(sink))),
            Coding::Brotli if brotli_window(first) <= BROTLI_WINDOW_MAX => {
                Self::Brotli(Box::new(DecompressorWriter::new(sink, BROTLI_PIECE)))
            }
            Coding::Brotli | Coding::Unknown => Self::Unknown,
        }
    }

    /// Everything that can be known by `piece` reaches the sink at once.
    fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        fn through(decoder: &mut impl Write, piece: &[u8]) -> io::Result<()> {
            decoder.write_all(piece)?;
            decoder.flush()
        }
        match self {
            Self::Waiting(..) | Self::Unknown => Ok(()),
            Self::Identity(sink) => sink.write_all(piece),
            Self::Gzip(decoder) => through(decoder, piece),
            Self::Zlib(decoder) => through(decoder, piece),
            Self::Deflate(decoder) => through(decoder, piece),
            Self::Brotli(decoder) => decoder.write_all(piece),
        }
    }
}

impl<S: Seek> Write for Sink<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = DECODED_MAX - self.decoded;
        let taken = &bytes[..bytes.len().min(left)];
        self.decoded += taken.len();
        let progress = self.scanner.feed(taken, &mut self.seek);
        if progress == Progress::Open && left > 0 {
            Ok(taken.len())
        } else {
            // Ends the decompression.
            Err(io::ErrorKind::Other.into())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a `deflate` stream begins as zlib's does: method 8, a window of at most 32 KiB (RFC 1950
/// section 2.2).
const fn is_zlib(first: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7
}

/// The window of a brotli stream, as a power of two (RFC 7932 section 9.1); that of a large-window
/// stream, which is no brotli on the web, is told as 16.
const fn brotli_window(first: u8) -> u8 {
    match first >> 1 & 7 {
        wide @ 1..=7 if first & 1 == 1 => 17 + wide,
        _ => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn coding(values: &[&'static str]) -> Coding {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        Coding::of(&headers)
    }

    #[test]
    fn codings_are_read_in_any_case_and_only_alone() {
        assert_eq!(coding(&[]), Coding::Identity);
        assert_eq!(coding(&["identity"]), Coding::Identity);
        assert_eq!(coding(&[" GZip "]), Coding::Gzip);
        assert_eq!(coding(&["x-gzip"]), Coding::Gzip);
        assert_eq!(coding(&["deflate"]), Coding::Deflate);
        assert_eq!(coding(&["BR"]), Coding::Brotli);
        assert_eq!(coding(&["zstd"]), Coding::Unknown);
        assert_eq!(coding(&["gzip, br"]), Coding::Unknown);
        assert_eq!(coding(&["gzip", "br"]), Coding::Unknown);
    }

    #[test]
    fn windows_of_brotli() {
        // RFC 7932 section 9.1, least significant bit first.
        for (first, window) in [
            (0b0, 16),
            (0b0011, 18),
            (0b1011, 22),
            (0b1101, 23),
            (0b1111, 24),
        ] {
            assert_eq!(brotli_window(first), window);
        }
    }
}
