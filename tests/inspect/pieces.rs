//! Bodies of random sizes in random pieces: the same in every run.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

/// Longest body, in bytes; most are much shorter.
const SIZE_MAX: usize = 256 << 10;

/// Decides by its seed alone (`SplitMix64`).
pub struct Pieces(u64);

impl Pieces {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A body: every order of magnitude is as likely as any other, and one in sixteen is empty.
    pub fn body(&mut self) -> Vec<u8> {
        if self.below(16) == 0 {
            return Vec::new();
        }
        let magnitude = self.below(usize::BITS as usize - SIZE_MAX.leading_zeros() as usize);
        let size = (1 << magnitude) + self.below(1 << magnitude);
        let mut body = Vec::with_capacity(size + 8);
        while body.len() < size.min(SIZE_MAX) {
            body.extend_from_slice(&self.next().to_le_bytes());
        }
        body.truncate(size.min(SIZE_MAX));
        body
    }

    /// Whether its length is told before.
    pub fn tells_length(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Cuts it: at most 64 pieces, some of a single byte.
    pub fn cut(&mut self, body: &Bytes) -> Cut {
        let mut rest = body.clone();
        let mut pieces = VecDeque::new();
        let most = 1 + self.below(64);
        while pieces.len() + 1 < most && rest.len() > 1 {
            let size = match self.below(4) {
                0 => 1,
                1 => 1 + self.below(rest.len().min(100)),
                _ => 1 + self.below(rest.len()),
            };
            pieces.push_back(rest.split_to(size.min(rest.len())));
        }
        if !rest.is_empty() {
            pieces.push_back(rest);
        }
        Cut(pieces)
    }
}

/// A body in pieces, whose length nobody is told.
pub struct Cut(VecDeque<Bytes>);

impl Body for Cut {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}
