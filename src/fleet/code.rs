//! Rows and what is kept on disk as bytes: a header of four bytes that say what it is, one of the
//! version, the CRC-32 of the rest and its length; then numbers in LEB128 and texts with their length
//! before them.

use std::str::from_utf8;

use super::row::{HOSTS_MAX, Members, Stamp};

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It is longer than it can be.
    #[error("it has {found} bytes, and at most {longest} are expected")]
    Long {
        /// Its length, in bytes.
        found: usize,
        /// The most that it can have.
        longest: usize,
    },
    /// It does not begin as it should.
    #[error("it was not written by kintone-egress")]
    Strange,
    /// It was written by a version with another form.
    #[error("it is of version {found}, and this program reads {expected}")]
    Version {
        /// The form's version.
        found: u8,
        /// The one that is read.
        expected: u8,
    },
    /// It is cut off, or its bytes were changed.
    #[error("its checksum or length is wrong")]
    Torn,
    /// Its checksum is right and it makes no sense.
    #[error("it makes no sense")]
    Nonsense,
}

/// A kind of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// How it begins.
    pub(super) magic: [u8; 4],
    pub(super) version: u8,
    /// The most that it can have, in bytes.
    pub(super) longest: usize,
}

/// Bytes before the body: the magic, the version, the checksum and the length.
const HEADER: usize = 4 + 1 + 4 + 4;

/// Longest text, in bytes: a DNS name has at most 253.
const TEXT_BYTES_MAX: u64 = 255;

/// Writes a body.
pub(super) struct Writer(Vec<u8>);

/// Reads a body; nothing if it is not as expected.
pub(super) struct Reader<'a>(&'a [u8]);

impl Form {
    /// A header and what `body` writes.
    pub(super) fn encode(self, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut out = Writer(vec![0; HEADER]);
        body(&mut out);
        let mut bytes = out.0;
        let length = u32::try_from(bytes.len() - HEADER).unwrap_or(u32::MAX);
        let sum = crc32fast::hash(&bytes[HEADER..]);
        bytes[..4].copy_from_slice(&self.magic);
        bytes[4] = self.version;
        bytes[5..9].copy_from_slice(&sum.to_le_bytes());
        bytes[9..HEADER].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    /// What `body` reads, which is all there is.
    pub(super) fn decode<T>(
        self,
        bytes: &[u8],
        body: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    ) -> Result<T, CodeError> {
        if bytes.len() > self.longest {
            return Err(CodeError::Long {
                found: bytes.len(),
                longest: self.longest,
            });
        }
        let (header, rest) = bytes.split_at_checked(HEADER).ok_or(CodeError::Strange)?;
        if !header.starts_with(&self.magic) {
            return Err(CodeError::Strange);
        }
        if header[4] != self.version {
            return Err(CodeError::Version {
                found: header[4],
                expected: self.version,
            });
        }
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        if word(9) as usize != rest.len() || word(5) != crc32fast::hash(rest) {
            return Err(CodeError::Torn);
        }
        let mut input = Reader(rest);
        let read = body(&mut input).filter(|_| input.0.is_empty());
        read.ok_or(CodeError::Nonsense)
    }
}

impl Writer {
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn list<T>(&mut self, list: &[T], each: impl Fn(&mut Self, &T)) {
        self.number(list.len() as u64);
        for item in list {
            each(self, item);
        }
    }

    pub(super) fn stamp(&mut self, stamp: Stamp) {
        self.number(stamp.incarnation);
        self.number(stamp.beat);
    }

    pub(super) fn members(&mut self, members: &Members) {
        self.number(members.version);
        self.list(&members.evicted, |out, host| out.text(host));
    }
}

impl<'a> Reader<'a> {
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.number().filter(|length| *length <= TEXT_BYTES_MAX)?;
        let (text, rest) = self.0.split_at_checked(length as usize)?;
        self.0 = rest;
        from_utf8(text).ok().map(str::to_owned)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.small()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A list of at most `longest` items; memory is taken as they come.
    pub(super) fn list<T>(
        &mut self,
        longest: usize,
        each: impl Fn(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let length = self.small::<usize>()?;
        if length > longest {
            return None;
        }
        (0..length).map(|_| each(self)).collect()
    }

    pub(super) fn stamp(&mut self) -> Option<Stamp> {
        Some(Stamp {
            incarnation: self.number()?,
            beat: self.number()?,
        })
    }

    pub(super) fn members(&mut self) -> Option<Members> {
        Some(Members {
            version: self.number()?,
            evicted: self.list(HOSTS_MAX, Self::text)?,
        })
    }
}
