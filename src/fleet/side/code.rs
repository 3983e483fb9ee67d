//! A side row as bytes.

use bytes::Bytes;

use super::topic::Topic;
use crate::fleet::code::{CodeError, Form};
use crate::fleet::row::Stamp;

/// A host's side row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Whose it is.
    pub(super) host: String,
    /// When it was written, by its host's count.
    pub(super) stamp: Stamp,
    /// When it was written, by its host's wall clock, in milliseconds since 1970.
    pub(super) written_at_ms: u64,
    /// The contents, by the number of their topic: a newer version may have topics that this one does
    /// not know.
    pub(super) contents: Vec<(u64, Bytes)>,
}

/// Topics in a row, at most.
const TOPICS_MAX: usize = 32;
/// What a row has beside its contents, in bytes, at most: the header, the longest host name, numbers.
const ROW_OVERHEAD: usize = 13 + 2 + 255 + 4 * 10;
/// What a content has beside its bytes: its topic's number and its length.
const CONTENT_OVERHEAD: usize = 2 * 10;

const fn form(longest: usize) -> Form {
    Form {
        magic: *b"kefs",
        version: 1,
        longest,
    }
}

/// The contents that a row of `longest` bytes has room for, and the topics that it has none for.
/// `posted` is told how many bytes there is room for.
pub(super) fn fit(
    posted: impl Fn(Topic, usize) -> Option<Bytes>,
    longest: usize,
) -> (Vec<(u64, Bytes)>, Vec<Topic>) {
    let mut room = longest.saturating_sub(ROW_OVERHEAD);
    let (mut contents, mut left_out) = (Vec::new(), Vec::new());
    for topic in Topic::ALL {
        let Some(content) = posted(topic, room.saturating_sub(CONTENT_OVERHEAD)) else {
            continue;
        };
        match room.checked_sub(content.len() + CONTENT_OVERHEAD) {
            Some(rest) => {
                room = rest;
                contents.push((topic.number(), content));
            }
            None => left_out.push(topic),
        }
    }
    (contents, left_out)
}

impl Row {
    pub(super) fn encode(&self, longest: usize) -> Vec<u8> {
        form(longest).encode(|out| {
            out.text(&self.host);
            out.stamp(self.stamp);
            out.number(self.written_at_ms);
            out.list(&self.contents, |out, (topic, content)| {
                out.number(*topic);
                out.bytes(content);
            });
        })
    }

    pub(super) fn decode(bytes: &[u8], longest: usize) -> Result<Self, CodeError> {
        form(longest).decode(bytes, |input| {
            Some(Self {
                host: input.text()?,
                stamp: input.stamp()?,
                written_at_ms: input.number()?,
                contents: input.list(TOPICS_MAX, |input| {
                    Some((input.number()?, Bytes::copy_from_slice(input.bytes()?)))
                })?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(contents: Vec<(u64, Bytes)>) -> Row {
        Row {
            host: "a".repeat(255),
            stamp: Stamp {
                incarnation: u64::MAX,
                beat: u64::MAX,
            },
            written_at_ms: u64::MAX,
            contents,
        }
    }

    #[test]
    fn a_row_comes_back_whole_or_not_at_all() {
        let row = row(vec![(1, Bytes::from_static(b"days")), (77, Bytes::new())]);
        let bytes = row.encode(4096);
        assert_eq!(Row::decode(&bytes, 4096), Ok(row));
        let too_long = Row::decode(&bytes, bytes.len() - 1);
        assert!(matches!(too_long, Err(CodeError::Long { .. })));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Row::decode(&changed, 4096).is_err(), "byte {at}");
            assert!(Row::decode(&bytes[..at], 4096).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_fits_is_in_the_row_and_what_does_not_is_named() {
        let longest = 4096;
        let of = |topic: Topic, _| match topic {
            Topic::Published => Some(Bytes::from(vec![1; 1000])),
            Topic::Days => Some(Bytes::from(vec![2; 4000])),
            Topic::Evidence => Some(Bytes::from(vec![3; longest - ROW_OVERHEAD - 1000 - 40])),
            Topic::Episodes | Topic::Acceptance => None,
        };
        let (contents, left_out) = fit(of, longest);
        assert_eq!(left_out, [Topic::Days]);
        let topics: Vec<_> = contents.iter().map(|(topic, _)| *topic).collect();
        assert_eq!(
            topics,
            [Topic::Published.number(), Topic::Evidence.number()]
        );
        let bytes = row(contents).encode(longest);
        assert!(bytes.len() <= longest, "{}", bytes.len());
    }
}
