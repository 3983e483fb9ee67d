//! Values at known places of a JSON text that comes in pieces.
//!
//! The text is never held: a [`Scanner`] keeps where it stands (which containers are open, the
//! names of the outer ones) and at most one short name or value. Libraries that stream either pull
//! from a reader or gather whole values; neither fits bytes that are passed on as they come.
//!
//! It understands every valid text. What is wrong in a part that nobody asked about may pass
//! unnoticed: it is kintone that refuses it.

use std::ops::ControlFlow;

pub use step::Step;
pub use token::TOKEN_MAX;

mod step;
mod token;

use token::{Escape, StringEnd, Token};

/// Deepest nesting that is followed: `serde_json`'s own limit, and far beyond kintone's records.
const DEPTH_MAX: u8 = 128;

/// Nesting up to which values are told; what is asked about lies within.
const PATH_MAX: usize = 4;

/// A value that is no object and no array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string, its escapes undone. What is no text in UTF-8 stays so.
    Text(&'a [u8]),
    /// A number, `true`, `false` or `null` as it is written.
    Bare(&'a [u8]),
    /// Longer than [`TOKEN_MAX`].
    Long,
}

/// Who wants to know. `Break` ends the scan.
pub trait Seek {
    /// A value stands at `path`, which has at most four steps.
    fn value(&mut self, path: &[Step], value: Value<'_>) -> ControlFlow<()>;

    /// The object or array at `path` is complete.
    fn closed(&mut self, path: &[Step]) -> ControlFlow<()>;
}

/// How far a scan has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More is needed.
    Open,
    /// The text is complete.
    Complete,
    /// Who asked knows enough.
    Stopped,
    /// This is no JSON text, or nested deeper than 128 levels.
    Malformed,
}

/// A place in a JSON text.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    depth: u8,
    /// Bit n is set if the container at depth n + 1 is an object.
    objects: u128,
    path: [Step; PATH_MAX],
    token: Token,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between names and values.
    Between(Expect),
    InName(Escape),
    /// A string that somebody may want.
    InText(Escape),
    /// A string that nobody wants.
    InSkipped,
    /// Behind its backslash.
    InSkippedEscape,
    InBare,
    End(Progress),
}

/// What must come next, spaces aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    Colon,
    CommaOrEnd,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            state: State::Between(Expect::Value),
            depth: 0,
            objects: 0,
            path: [Step::Other; PATH_MAX],
            token: Token::default(),
        }
    }
}

impl Scanner {
    /// How far it has come.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        if let State::End(progress) = self.state {
            progress
        } else {
            Progress::Open
        }
    }

    /// Reads the next piece, of any size.
    pub fn feed(&mut self, piece: &[u8], seek: &mut impl Seek) -> Progress {
        let mut rest = piece;
        while !rest.is_empty() {
            rest = match self.state {
                State::Between(expect) => self.step(rest, expect, seek),
                State::InSkipped => self.skip_string(rest),
                State::InSkippedEscape => {
                    self.state = State::InSkipped;
                    &rest[1..]
                }
                State::InName(escape) | State::InText(escape) => {
                    self.read_string(rest, escape, seek)
                }
                State::InBare => self.read_bare(rest, seek),
                State::End(progress) => return progress,
            };
        }
        self.progress()
    }

    /// One byte of structure, or the beginning of a value.
    fn step<'a>(&mut self, bytes: &'a [u8], expect: Expect, seek: &mut impl Seek) -> &'a [u8] {
        match (expect, bytes[0]) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => {}
            (Expect::ValueOrEnd, b']') => self.close(false, seek),
            (Expect::Value | Expect::ValueOrEnd, _) => return self.begin_value(bytes),
            (Expect::Name | Expect::NameOrEnd, b'"') => {
                self.begin_token(State::InName(Escape::None));
            }
            (Expect::NameOrEnd, b'}') => self.close(true, seek),
            (Expect::Colon, b':') => self.state = State::Between(Expect::Value),
            (Expect::CommaOrEnd, b',') => {
                let next = if self.is_in_object() {
                    Expect::Name
                } else {
                    Expect::Value
                };
                self.state = State::Between(next);
            }
            (Expect::CommaOrEnd, b'}') => self.close(true, seek),
            (Expect::CommaOrEnd, b']') => self.close(false, seek),
            (Expect::Name | Expect::NameOrEnd | Expect::Colon | Expect::CommaOrEnd, _) => {
                self.fail();
            }
        }
        &bytes[1..]
    }

    fn begin_value<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        match bytes[0] {
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'"' if self.is_of_interest() => self.begin_token(State::InText(Escape::None)),
            b'"' => self.state = State::InSkipped,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                self.begin_token(State::InBare);
                return bytes;
            }
            _ => self.fail(),
        }
        &bytes[1..]
    }

    fn begin_token(&mut self, state: State) {
        self.token.clear();
        self.state = state;
    }

    fn skip_string<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(at) = memchr::memchr2(b'"', b'\\', bytes) else {
            return &[];
        };
        if bytes[at] == b'"' {
            self.value_is_over();
        } else {
            self.state = State::InSkippedEscape;
        }
        &bytes[at + 1..]
    }

    fn read_string<'a>(
        &mut self,
        bytes: &'a [u8],
        escape: Escape,
        seek: &mut impl Seek,
    ) -> &'a [u8] {
        let is_name = matches!(self.state, State::InName(_));
        match self.token.add_string(bytes, escape) {
            StringEnd::At(at) => {
                if is_name {
                    self.name_is_over();
                } else {
                    let flow = self.tell(seek, Value::Text);
                    self.value_is_over();
                    self.heed(flow);
                }
                return &bytes[at + 1..];
            }
            StringEnd::Open(escape) if is_name => self.state = State::InName(escape),
            StringEnd::Open(escape) => self.state = State::InText(escape),
            StringEnd::Malformed => self.fail(),
        }
        &[]
    }

    fn read_bare<'a>(&mut self, bytes: &'a [u8], seek: &mut impl Seek) -> &'a [u8] {
        let is_bare =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let length = bytes.iter().position(|byte| !is_bare(byte));
        let (token, rest) = bytes.split_at(length.unwrap_or(bytes.len()));
        self.token.add(token);
        if length.is_some() {
            let flow = self.tell(seek, Value::Bare);
            self.value_is_over();
            self.heed(flow);
        }
        rest
    }

    fn name_is_over(&mut self) {
        let level = usize::from(self.depth) - 1;
        if let Some(step) = self.path.get_mut(level) {
            *step = self.token.get().map_or(Step::Other, Step::of);
        }
        self.state = State::Between(Expect::Colon);
    }

    fn value_is_over(&mut self) {
        self.state = if self.depth == 0 {
            State::End(Progress::Complete)
        } else {
            State::Between(Expect::CommaOrEnd)
        };
    }

    fn open(&mut self, is_object: bool) {
        if self.depth == DEPTH_MAX {
            return self.fail();
        }
        let bit = 1 << self.depth;
        self.depth += 1;
        let level = usize::from(self.depth) - 1;
        if is_object {
            self.objects |= bit;
            self.state = State::Between(Expect::NameOrEnd);
        } else {
            self.objects &= !bit;
            self.state = State::Between(Expect::ValueOrEnd);
        }
        if let Some(step) = self.path.get_mut(level) {
            *step = if is_object {
                Step::Other
            } else {
                Step::Element
            };
        }
    }

    fn close(&mut self, is_object: bool, seek: &mut impl Seek) {
        if self.depth == 0 || self.is_in_object() != is_object {
            return self.fail();
        }
        self.depth -= 1;
        self.value_is_over();
        if let Some(path) = self.path.get(..usize::from(self.depth)) {
            let flow = seek.closed(path);
            self.heed(flow);
        }
    }

    fn tell<'s>(
        &'s self,
        seek: &mut impl Seek,
        kind: impl FnOnce(&'s [u8]) -> Value<'s>,
    ) -> ControlFlow<()> {
        if !self.is_of_interest() {
            return ControlFlow::Continue(());
        }
        let value = self.token.get().map_or(Value::Long, kind);
        seek.value(&self.path[..usize::from(self.depth)], value)
    }

    fn heed(&mut self, flow: ControlFlow<()>) {
        if flow.is_break() && self.progress() == Progress::Open {
            self.state = State::End(Progress::Stopped);
        }
    }

    fn is_in_object(&self) -> bool {
        self.depth > 0 && self.objects & 1 << (self.depth - 1) != 0
    }

    /// Whether the value to come can be one that is asked about.
    fn is_of_interest(&self) -> bool {
        let depth = usize::from(self.depth);
        (1..=PATH_MAX).contains(&depth) && self.path[depth - 1] != Step::Other
    }

    const fn fail(&mut self) {
        self.state = State::End(Progress::Malformed);
    }
}
