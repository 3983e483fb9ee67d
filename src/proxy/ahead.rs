//! The beginning of a caller's body that was read before it is sent, because it says what the call is
//! about.

use std::collections::VecDeque;

use bytes::Bytes;
use http_body::Frame;

/// Frames that wait to be sent.
#[derive(Default)]
pub(crate) struct Ahead {
    frames: VecDeque<Frame<Bytes>>,
    size: usize,
    end: End,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Unseen,
    Seen,
}

impl Ahead {
    pub(crate) fn push(&mut self, frame: Frame<Bytes>) {
        self.size += frame.data_ref().map_or(0, Bytes::len);
        if frame.is_trailers() {
            self.end = End::Seen;
        }
        self.frames.push_back(frame);
    }

    /// The next one to be sent.
    pub(crate) fn pop(&mut self) -> Option<Frame<Bytes>> {
        self.frames.pop_front()
    }

    /// The body has ended behind what was read.
    pub(crate) fn end(&mut self) {
        self.end = End::Seen;
    }

    /// Whether the end of the body was read.
    pub(crate) fn has_end(&self) -> bool {
        self.end == End::Seen
    }

    /// Whether all of it has been sent, and the body's end was read.
    pub(crate) fn is_whole(&self) -> bool {
        self.has_end() && self.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether more may be read, where `max` bytes are the most.
    pub(crate) fn has_room(&self, max: usize) -> bool {
        self.size < max
    }
}
