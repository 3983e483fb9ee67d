//! One short name or value as it comes.

/// Longest name or value that is told, in bytes: twice that of any identifier of kintone's.
pub const TOKEN_MAX: usize = 128;

/// Stands for a character that no name or value of interest contains; never part of UTF-8.
const FOREIGN: u8 = 0xff;

/// The bytes of a name or value, as far as they are told.
#[derive(Debug)]
pub(super) struct Token {
    bytes: [u8; TOKEN_MAX],
    /// Beyond `TOKEN_MAX` once it is too long.
    length: usize,
}

/// Where within a string a piece ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    None,
    Backslash,
    /// Digits of `\uXXXX` to come, and the number so far.
    Unicode(u8, u16),
}

/// How far a string came within a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StringEnd {
    /// Its closing quote stands there.
    At(usize),
    /// It goes on.
    Open(Escape),
    /// It is none.
    Malformed,
}

impl Default for Token {
    fn default() -> Self {
        Self {
            bytes: [0; TOKEN_MAX],
            length: 0,
        }
    }
}

impl Token {
    pub(super) const fn clear(&mut self) {
        self.length = 0;
    }

    /// The whole token; `None` if it is too long.
    pub(super) fn get(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length)
    }

    /// Adds a part of a value without quotes.
    pub(super) fn add(&mut self, part: &[u8]) {
        for byte in part {
            self.push(*byte);
        }
    }

    /// Adds a part of a string, its escapes undone.
    pub(super) fn add_string(&mut self, part: &[u8], mut escape: Escape) -> StringEnd {
        for (at, &byte) in part.iter().enumerate() {
            escape = match (escape, byte) {
                (Escape::None, b'"') => return StringEnd::At(at),
                (Escape::None, b'\\') => Escape::Backslash,
                (Escape::None, 0..0x20) => return StringEnd::Malformed,
                (Escape::None, _) => self.push(byte),
                (Escape::Backslash, b'u') => Escape::Unicode(4, 0),
                (Escape::Backslash, _) => self.push(unescaped(byte)),
                (Escape::Unicode(left, number), _) => {
                    let Some(digit) = char::from(byte).to_digit(16) else {
                        return StringEnd::Malformed;
                    };
                    let number = number << 4 | digit as u16;
                    match (left, u8::try_from(number)) {
                        (1, Ok(ascii @ 0..0x80)) => self.push(ascii),
                        (1, _) => self.push(FOREIGN),
                        _ => Escape::Unicode(left - 1, number),
                    }
                }
            };
        }
        StringEnd::Open(escape)
    }

    /// No escape is open behind a character.
    fn push(&mut self, byte: u8) -> Escape {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length = (self.length + 1).min(TOKEN_MAX + 1);
        Escape::None
    }
}

const fn unescaped(byte: u8) -> u8 {
    match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => FOREIGN,
    }
}
