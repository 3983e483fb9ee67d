//! Cutting an answer at a byte.

use crate::wire::Order;

/// Where an answer is cut, and what happens there.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    after: Measure,
    then: Order,
    /// How much of the blank line at the end of the answer's head has been seen; 4 is all.
    blank_line: usize,
}

/// What is counted up to a cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// Bytes of the answer, head included.
    Answer(u64),
    /// Bytes after the answer's head.
    Body(u64),
}

impl Cut {
    pub(crate) fn new(after: Measure, then: Order) -> Self {
        Self {
            after,
            then,
            blank_line: 0,
        }
    }

    /// How many of these bytes, the next of the answer, may be written.
    pub(crate) fn allowed(&self, bytes: &[u8]) -> usize {
        match self.after {
            Measure::Answer(left) => clamp(bytes.len(), left),
            Measure::Body(left) => match head_end(bytes, self.blank_line) {
                Some(head) => head + clamp(bytes.len() - head, left),
                None => bytes.len(),
            },
        }
    }

    /// Counts bytes that were written; what happens, when the cut is reached.
    pub(crate) fn wrote(&mut self, bytes: &[u8]) -> Option<Order> {
        let left = match &mut self.after {
            Measure::Answer(left) => {
                *left -= bytes.len() as u64;
                *left
            }
            Measure::Body(left) => match head_end(bytes, self.blank_line) {
                Some(head) => {
                    self.blank_line = 4;
                    *left -= (bytes.len() - head) as u64;
                    *left
                }
                None => {
                    self.blank_line = bytes.iter().fold(self.blank_line, step);
                    return None;
                }
            },
        };
        (left == 0).then(|| self.then.clone())
    }
}

fn clamp(length: usize, left: u64) -> usize {
    usize::try_from(left).map_or(length, |left| length.min(left))
}

/// Where the body begins in these bytes, given how much of the blank line came before them.
fn head_end(bytes: &[u8], seen: usize) -> Option<usize> {
    let mut seen = seen;
    if seen == 4 {
        return Some(0);
    }
    for (place, byte) in bytes.iter().enumerate() {
        seen = step(seen, byte);
        if seen == 4 {
            return Some(place + 1);
        }
    }
    None
}

fn step(seen: usize, byte: &u8) -> usize {
    match (seen, byte) {
        (1 | 3, b'\n') => seen + 1,
        (2, b'\r') => 3,
        (_, b'\r') => 1,
        (_, _) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_at_its_byte_however_the_answer_is_split() {
        let answer = b"HTTP/1.1 200 OK\r\na: b\r\n\r\n0123456789";
        for split in 1..answer.len() {
            let mut cut = Cut::new(Measure::Body(4), Order::Reset);
            let mut written = Vec::new();
            let mut order = None;
            for piece in [&answer[..split], &answer[split..]] {
                if order.is_none() {
                    let piece = &piece[..cut.allowed(piece)];
                    written.extend_from_slice(piece);
                    order = cut.wrote(piece);
                }
            }
            assert!(written.ends_with(b"\r\n\r\n0123"), "split at {split}");
            assert!(order.is_some(), "split at {split}");
        }
    }
}
