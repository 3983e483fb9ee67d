//! The beginning of a failed answer, held back until it is known why it failed.

use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

/// The beginning of an answer of 400 or above, held back until it is known why it failed.
pub(crate) struct Held {
    pub(crate) frames: Vec<Frame<Bytes>>,
    /// kintone's JSON error, where the held bytes are one.
    pub(crate) error: Option<KintoneError>,
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

/// The members of kintone's error body that are looked at.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct KintoneError {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) id: Option<String>,
}

/// How much of a failed answer is held, and for how long.
const HELD_SIZE_MAX: usize = 64 << 10;
const HELD_TIME_MAX: Duration = Duration::from_secs(1);

/// Reads the beginning of a failed answer, to learn kintone's code from it.
pub(crate) async fn hold(incoming: &mut Incoming) -> Held {
    let mut frames: Vec<Frame<Bytes>> = Vec::new();
    let mut size = 0;
    let until = Instant::now() + HELD_TIME_MAX;
    let end = loop {
        if incoming.is_end_stream() {
            break HeldEnd::Whole;
        }
        match timeout_at(until, incoming.frame()).await {
            Ok(None) => break HeldEnd::Whole,
            Ok(Some(Err(_))) => break HeldEnd::Broken,
            Err(_) => break HeldEnd::More,
            Ok(Some(Ok(frame))) => {
                size += frame.data_ref().map_or(0, Bytes::len);
                frames.push(frame);
                if size >= HELD_SIZE_MAX {
                    break HeldEnd::More;
                }
            }
        }
    };
    let chunks: Vec<&[u8]> = frames
        .iter()
        .filter_map(|frame| Some(&**frame.data_ref()?))
        .collect();
    let error = match (&end, chunks.as_slice()) {
        (HeldEnd::Whole, [one]) => serde_json::from_slice(one).ok(),
        (HeldEnd::Whole, many) => serde_json::from_slice(&many.concat()).ok(),
        (HeldEnd::More | HeldEnd::Broken, _) => None,
    };
    Held { frames, error, end }
}
