//! Answers as bytes of HTTP/1.1, for where hyper does not write them.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use jiff::Timestamp;

/// An answer as it goes over the wire of HTTP/1.1, for requests that never became a call.
pub(crate) fn to_bytes(response: &Response<Bytes>) -> Bytes {
    let mut wire = Vec::with_capacity(1024);
    let reason = response.extensions().get::<ReasonPhrase>();
    let reason = reason.map_or(&b""[..], ReasonPhrase::as_bytes);
    wire.extend_from_slice(b"HTTP/1.1 ");
    wire.extend_from_slice(response.status().as_str().as_bytes());
    wire.push(b' ');
    wire.extend_from_slice(reason);
    wire.extend_from_slice(b"\r\n");
    write_fields(&mut wire, response.headers());
    let (length, now) = (response.body().len(), Timestamp::now());
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT");
    let own = format!("content-length: {length}\r\ndate: {date}\r\n\r\n");
    wire.extend_from_slice(own.as_bytes());
    wire.extend_from_slice(response.body());
    wire.into()
}

/// A 1xx head.
pub(crate) fn interim(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut wire = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    write_fields(&mut wire, headers);
    wire.extend_from_slice(b"\r\n");
    wire
}

/// Writes the lines of a header section.
pub(crate) fn write_fields(wire: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        wire.extend_from_slice(name.as_str().as_bytes());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
}
