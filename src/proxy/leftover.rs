//! The rest of a body whose call was answered without it.

use std::future::Future as _;
use std::task::{Context, Waker};
use std::time::Duration;

use http::request::Parts;
use http::{Version, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::reply::After;

/// So much is read and thrown away so that the caller's next request is found behind it, …
const DISCARD_SIZE_MAX: u64 = 256 << 10;
/// … for so long. A connection that would cost more is closed.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(2);

/// Reads the body of a refused request and throws it away, beside the answer; what becomes of the
/// connection.
pub(crate) fn settle(head: &Parts, body: Incoming) -> After {
    if body.is_end_stream() {
        After::Keep
    } else if expects_continue(head) {
        // Reading would send the 100 (RFC 9110 section 10.1.1).
        After::Close
    } else {
        discard(body)
    }
}

/// The same for what is left of a body that was read before.
pub(crate) fn discard(body: Incoming) -> After {
    if body.size_hint().lower() > DISCARD_SIZE_MAX {
        return After::Close;
    }
    let mut discard = Box::pin(read(body));
    // Most bodies have come along with their head.
    let mut context = Context::from_waker(Waker::noop());
    if discard.as_mut().poll(&mut context).is_pending() {
        tokio::spawn(tokio::time::timeout(DISCARD_TIME_MAX, discard));
    }
    After::Keep
}

/// Whoever drops a body that is not read to its end closes its connection.
async fn read(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, |data| data.len() as u64);
        if read > DISCARD_SIZE_MAX {
            return;
        }
    }
}

/// Whether the caller waits for a 100 before it sends the body (RFC 9110 section 10.1.1); in HTTP/1.0
/// there is no such thing.
pub(crate) fn expects_continue(head: &Parts) -> bool {
    head.version >= Version::HTTP_11
        && head
            .headers
            .get(header::EXPECT)
            .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
