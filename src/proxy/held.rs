//! The beginning of a failed answer, held back until it is known why it failed.

use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::kintone::answer::{BodyEnd, Coding, ErrorReader};

/// The beginning of an answer of 400 or above, held back until it is known why it failed.
pub(crate) struct Held {
    pub(crate) frames: Vec<Frame<Bytes>>,
    /// Has read what is held.
    pub(crate) reader: ErrorReader,
    /// Whether the whole answer is held.
    pub(crate) end: HeldEnd,
}

/// How far a held answer was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeldEnd {
    Whole,
    More,
    Broken,
}

/// How much of a failed answer is held, and for how long.
const HELD_SIZE_MAX: usize = 64 << 10;
const HELD_TIME_MAX: Duration = Duration::from_secs(1);

/// Reads the beginning of a failed answer that is compressed so, until kintone's error is known.
/// What has come by then is taken too, so that a short answer is held whole.
pub(crate) async fn hold(incoming: &mut Incoming, coding: Coding) -> Held {
    let mut reader = ErrorReader::new(coding);
    let mut frames: Vec<Frame<Bytes>> = Vec::new();
    let mut size = 0;
    let mut until = Instant::now() + HELD_TIME_MAX;
    let end = loop {
        if incoming.is_end_stream() {
            break HeldEnd::Whole;
        }
        match timeout_at(until, incoming.frame()).await {
            Ok(None) => break HeldEnd::Whole,
            Ok(Some(Err(_))) => break HeldEnd::Broken,
            Err(_) => break HeldEnd::More,
            Ok(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    size += data.len();
                    reader.feed(data);
                }
                frames.push(frame);
                if size >= HELD_SIZE_MAX {
                    break HeldEnd::More;
                }
                if reader.knows() {
                    until = Instant::now();
                }
            }
        }
    };
    Held {
        frames,
        reader,
        end,
    }
}

impl HeldEnd {
    pub(crate) const fn of_body(self) -> BodyEnd {
        match self {
            Self::Whole => BodyEnd::Whole,
            Self::More | Self::Broken => BodyEnd::More,
        }
    }
}
