//! How HTTP is spoken with kintone.

use hyper::client::conn::http1;

/// What one connection reads ahead at most, in bytes: two records of TLS. hyper's own bound is 400
/// KiB, for each call whose caller does not read.
const BUFFER_MAX: usize = 32 << 10;

/// HTTP/1.1 as a proxy speaks it, with heads of up to `head_size` bytes.
pub(super) fn speak(head_size: usize) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.preserve_header_case(true)
        // A proxy removes them (RFC 9112 section 5.1).
        .allow_spaces_after_header_name_in_responses(true)
        .max_header_size(head_size)
        .max_buf_size(head_size.max(BUFFER_MAX));
    http
}
