//! One call as one line of JSON: the access log's format (contract, section 9).
//!
//! The fields are in a fixed order, all of them always there; what is unknown is `null`. Times
//! are in milliseconds with at most three decimals, cut, never rounded up.

use std::cell::RefCell;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;

use super::record::Record;
use crate::model::Credential;

/// A field's name as it stands in the line, the comma before it included.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

const NULL: &str = "null";

/// A line is seldom longer.
const LINE_BYTES: usize = 1024;

/// Appends the line of `record`, its line end included. `host` is this host's name as a JSON
/// string, quotes included ([`json_string`]); `now` is when the call ended.
pub fn write(line: &mut Vec<u8>, record: &Record, host: &str, now: Timestamp) {
    line.reserve(LINE_BYTES);
    line.extend_from_slice(b"{\"ts\":\"");
    write_time(line, now);
    line.push(b'"');
    write_identity(line, record, host);
    write_request(line, record);
    write_end(line, record);
    write_way(line, record);
    write_times(line, record);
    line.extend_from_slice(b"}\n");
}

/// `text` as a JSON string, quotes included.
#[must_use]
pub fn json_string(text: &str) -> String {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    push_string(&mut quoted, text);
    String::from_utf8(quoted).unwrap_or_default()
}

fn write_identity(line: &mut Vec<u8>, record: &Record, host: &str) {
    word(line, key!("id"), Some(record.id.as_str()));
    push(line, key!("host"));
    push(line, host);
    word(
        line,
        key!("caller"),
        record.caller.as_ref().map(|it| it.as_str()),
    );
    credential(line, record.credential);
    word(
        line,
        key!("tenant"),
        record.tenant.as_ref().map(|it| it.as_str()),
    );
    word(line, key!("priority"), record.priority.map(|it| it.label()));
    word(
        line,
        key!("purpose"),
        record.purpose.as_ref().map(|it| it.as_str()),
    );
}

fn write_request(line: &mut Vec<u8>, record: &Record) {
    word(
        line,
        key!("account"),
        record.account.as_ref().map(|it| it.as_str()),
    );
    number(line, key!("app"), record.app.map(|app| app.0));
    word(line, key!("mode"), record.mode.map(|it| it.label()));
    text(
        line,
        key!("method"),
        record.method.as_ref().map(|it| it.as_str()),
    );
    text(line, key!("path"), record.path);
}

fn write_end(line: &mut Vec<u8>, record: &Record) {
    number(line, key!("status"), record.status.map(u64::from));
    word(line, key!("cause"), record.cause.map(|it| it.label()));
    text(line, key!("kintone_code"), record.kintone_code.as_deref());
    text(line, key!("kintone_id"), record.kintone_id.as_deref());
    word(line, key!("outcome"), Some(record.outcome.label()));
    word(line, key!("detail"), record.detail.map(|it| it.label()));
}

fn write_way(line: &mut Vec<u8>, record: &Record) {
    address(line, key!("address"), record.address.map(|it| it.0));
    address(line, key!("bind"), record.bind.map(|it| it.0));
    socket(line, key!("upstream"), record.upstream.map(SocketAddr::V4));
    number(line, key!("bytes_in"), Some(record.bytes_in));
    number(line, key!("bytes_out"), Some(record.bytes_out));
}

fn write_times(line: &mut Vec<u8>, record: &Record) {
    milliseconds(line, key!("queued_ms"), record.queued);
    milliseconds(line, key!("dns_ms"), record.dns);
    milliseconds(line, key!("connect_ms"), record.connect);
    milliseconds(line, key!("tls_ms"), record.tls);
    milliseconds(line, key!("upstream_ms"), record.upstream_time);
    milliseconds(line, key!("permit_ms"), record.permit);
    milliseconds(line, key!("total_ms"), Some(record.total));
    number(line, key!("retries"), Some(u64::from(record.retries)));
    number(
        line,
        key!("kintone_running"),
        record.kintone_running.map(u64::from),
    );
    number(
        line,
        key!("kintone_limit"),
        record.kintone_limit.map(u64::from),
    );
    socket(line, key!("client"), record.client.map(|it| it.0));
    text(line, key!("user_agent"), record.user_agent.as_deref());
    text(line, key!("trace_id"), record.trace_id.as_deref());
    if let Some(host) = &record.handed_by {
        text(line, key!("handed_by"), Some(host));
    }
}

/// A string of a closed alphabet, which needs no escapes.
fn word(line: &mut Vec<u8>, key: &str, value: Option<&str>) {
    push(line, key);
    match value {
        Some(value) => quote(line, value),
        None => push(line, NULL),
    }
}

/// A string that somebody else chose.
fn text(line: &mut Vec<u8>, key: &str, value: Option<&str>) {
    push(line, key);
    match value {
        Some(value) => push_string(line, value),
        None => push(line, NULL),
    }
}

fn number(line: &mut Vec<u8>, key: &str, value: Option<u64>) {
    push(line, key);
    match value {
        Some(value) => push_number(line, value),
        None => push(line, NULL),
    }
}

fn address(line: &mut Vec<u8>, key: &str, ip: Option<Ipv4Addr>) {
    push(line, key);
    match ip {
        Some(ip) => {
            line.push(b'"');
            push_ip(line, ip);
            line.push(b'"');
        }
        None => push(line, NULL),
    }
}

fn socket(line: &mut Vec<u8>, key: &str, socket: Option<SocketAddr>) {
    push(line, key);
    match socket {
        Some(SocketAddr::V4(socket)) => {
            line.push(b'"');
            push_ip(line, *socket.ip());
            line.push(b':');
            push_number(line, u64::from(socket.port()));
            line.push(b'"');
        }
        Some(SocketAddr::V6(socket)) => {
            // Writing to a vector cannot fail.
            let _ = write!(line, "\"{socket}\"");
        }
        None => push(line, NULL),
    }
}

fn credential(line: &mut Vec<u8>, value: Option<Credential>) {
    let key = key!("credential");
    match value {
        Some(Credential::Token(number)) => {
            push(line, key);
            line.push(b'"');
            push_number(line, u64::from(number));
            line.push(b'"');
        }
        Some(Credential::Certificate) => word(line, key, Some("certificate")),
        Some(Credential::Network) => word(line, key, Some("network")),
        None => word(line, key, None),
    }
}

fn milliseconds(line: &mut Vec<u8>, key: &str, value: Option<Duration>) {
    push(line, key);
    let Some(value) = value else {
        push(line, NULL);
        return;
    };
    let part = value.subsec_micros();
    let whole = value.as_secs().saturating_mul(1000);
    push_number(line, whole.saturating_add(u64::from(part / 1000)));
    let fraction = u64::from(part % 1000);
    if fraction != 0 {
        line.push(b'.');
        push_padded(line, fraction);
        while line.last() == Some(&b'0') {
            line.pop();
        }
    }
}

fn push_string(line: &mut Vec<u8>, value: &str) {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if value.bytes().all(plain) {
        quote(line, value);
    } else {
        // Writing to a vector cannot fail.
        let _ = serde_json::to_writer(&mut *line, value);
    }
}

fn quote(line: &mut Vec<u8>, value: &str) {
    line.push(b'"');
    push(line, value);
    line.push(b'"');
}

fn push(line: &mut Vec<u8>, text: &str) {
    line.extend_from_slice(text.as_bytes());
}

fn push_ip(line: &mut Vec<u8>, ip: Ipv4Addr) {
    let [first, rest @ ..] = ip.octets();
    push_number(line, u64::from(first));
    for octet in rest {
        line.push(b'.');
        push_number(line, u64::from(octet));
    }
}

fn push_number(line: &mut Vec<u8>, value: u64) {
    if value < 10 {
        line.push(digit(value));
        return;
    }
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    let mut rest = value;
    loop {
        start -= 1;
        digits[start] = digit(rest);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[start..]);
}

/// Three digits of a number below 1000.
fn push_padded(line: &mut Vec<u8>, value: u64) {
    line.extend_from_slice(&[digit(value / 100), digit(value / 10), digit(value)]);
}

fn digit(value: u64) -> u8 {
    b'0' + (value % 10) as u8
}

/// RFC 3339 in UTC with milliseconds. A thread composes the part down to the second once a second.
fn write_time(line: &mut Vec<u8>, now: Timestamp) {
    thread_local! {
        static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    let millisecond = now.as_millisecond();
    let second = millisecond.div_euclid(1000);
    SECOND.with_borrow_mut(|(known, text)| {
        if *known != second {
            *text = Timestamp::from_second(second)
                .map(|time| time.strftime("%Y-%m-%dT%H:%M:%S").to_string())
                .unwrap_or_default();
            *known = second;
        }
        line.extend_from_slice(text.as_bytes());
    });
    line.push(b'.');
    push_padded(line, millisecond.rem_euclid(1000).unsigned_abs());
    line.push(b'Z');
}
