//! One call as one line of JSON: the access log's format (contract, section 9).
//!
//! The fields are in a fixed order, all of them always there; what is unknown is `null`. Times
//! are in milliseconds with at most three decimals, cut, never rounded up.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::record::Record;

/// Appends the line of `record`, its line end included. `host` is this host's name as a JSON
/// string, quotes included ([`json_string`]); `now` is when the call ended.
pub fn write(line: &mut Vec<u8>, record: &Record, host: &str, now: Timestamp) {
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
    word(line, "id", Some(record.id.as_str()));
    key(line, "host");
    line.extend_from_slice(host.as_bytes());
    word(line, "caller", record.caller.as_ref().map(|it| it.as_str()));
    shown(line, "credential", record.credential);
    word(line, "tenant", record.tenant.as_ref().map(|it| it.as_str()));
    word(line, "priority", record.priority.map(|it| it.label()));
    word(
        line,
        "purpose",
        record.purpose.as_ref().map(|it| it.as_str()),
    );
}

fn write_request(line: &mut Vec<u8>, record: &Record) {
    word(
        line,
        "account",
        record.account.as_ref().map(|it| it.as_str()),
    );
    number(line, "app", record.app.map(|app| app.0));
    word(line, "mode", record.mode.map(|it| it.label()));
    text(line, "method", record.method.as_ref().map(|it| it.as_str()));
    text(line, "path", record.path);
}

fn write_end(line: &mut Vec<u8>, record: &Record) {
    number(line, "status", record.status.map(u64::from));
    word(line, "cause", record.cause.map(|it| it.label()));
    text(line, "kintone_code", record.kintone_code.as_deref());
    text(line, "kintone_id", record.kintone_id.as_deref());
    word(line, "outcome", Some(record.outcome.label()));
    word(line, "detail", record.detail.map(|it| it.label()));
}

fn write_way(line: &mut Vec<u8>, record: &Record) {
    shown(line, "address", record.address);
    shown(line, "bind", record.bind);
    shown(line, "upstream", record.upstream);
    number(line, "bytes_in", Some(record.bytes_in));
    number(line, "bytes_out", Some(record.bytes_out));
}

fn write_times(line: &mut Vec<u8>, record: &Record) {
    milliseconds(line, "queued_ms", record.queued);
    milliseconds(line, "dns_ms", record.dns);
    milliseconds(line, "connect_ms", record.connect);
    milliseconds(line, "tls_ms", record.tls);
    milliseconds(line, "upstream_ms", record.upstream_time);
    milliseconds(line, "permit_ms", record.permit);
    milliseconds(line, "total_ms", Some(record.total));
    number(line, "retries", Some(u64::from(record.retries)));
    number(
        line,
        "kintone_running",
        record.kintone_running.map(u64::from),
    );
    number(line, "kintone_limit", record.kintone_limit.map(u64::from));
    shown(line, "client", record.client);
    text(line, "user_agent", record.user_agent.as_deref());
    text(line, "trace_id", record.trace_id.as_deref());
}

fn key(line: &mut Vec<u8>, name: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
}

/// A string of a closed alphabet, which needs no escapes.
fn word(line: &mut Vec<u8>, name: &str, value: Option<&str>) {
    key(line, name);
    match value {
        Some(value) => {
            line.push(b'"');
            line.extend_from_slice(value.as_bytes());
            line.push(b'"');
        }
        None => line.extend_from_slice(b"null"),
    }
}

/// A string that somebody else chose.
fn text(line: &mut Vec<u8>, name: &str, value: Option<&str>) {
    key(line, name);
    match value {
        Some(value) => push_string(line, value),
        None => line.extend_from_slice(b"null"),
    }
}

/// An address or another value whose text needs no escapes.
fn shown(line: &mut Vec<u8>, name: &str, value: Option<impl Display>) {
    key(line, name);
    match value {
        Some(value) => {
            // Writing to a vector cannot fail.
            let _ = write!(line, "\"{value}\"");
        }
        None => line.extend_from_slice(b"null"),
    }
}

fn number(line: &mut Vec<u8>, name: &str, value: Option<u64>) {
    key(line, name);
    match value {
        Some(value) => push_number(line, value),
        None => line.extend_from_slice(b"null"),
    }
}

fn milliseconds(line: &mut Vec<u8>, name: &str, value: Option<Duration>) {
    key(line, name);
    let Some(value) = value else {
        line.extend_from_slice(b"null");
        return;
    };
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    push_number(line, micros / 1000);
    let fraction = micros % 1000;
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
        line.push(b'"');
        line.extend_from_slice(value.as_bytes());
        line.push(b'"');
    } else {
        // Writing to a vector cannot fail.
        let _ = serde_json::to_writer(&mut *line, value);
    }
}

fn push_number(line: &mut Vec<u8>, value: u64) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Account, AppId, Bind, CallerName, Cause, Client, Credential, Detail, Mode, Outcome,
        Priority, Published, Purpose, RequestId, Tenant,
    };

    fn line_of(record: &Record) -> String {
        let mut line = Vec::new();
        let now: Timestamp = "2026-05-06T07:08:09.012Z".parse().unwrap();
        write(&mut line, record, &json_string("gw-a"), now);
        String::from_utf8(line).unwrap()
    }

    fn full() -> Record {
        Record {
            caller: CallerName::parse("call-events"),
            credential: Some(Credential::Token(2)),
            tenant: Tenant::parse("company-1").ok(),
            priority: Some(Priority::Batch),
            purpose: Purpose::parse("voicemail"),
            account: Some(Account::from_normal("acme.cybozu.com")),
            app: Some(AppId(7)),
            mode: Some(Mode::Forward),
            method: Some(http::Method::GET),
            path: Some("/k/v1/records.json"),
            status: Some(429),
            cause: Some(Cause::AccountConcurrency),
            kintone_code: Some("GAIA_TO04".into()),
            kintone_id: Some("abc".into()),
            outcome: Outcome::KintoneError,
            detail: Some(Detail::ResponseCut),
            address: Some(Published([18, 177, 83, 94].into())),
            bind: Some(Bind([10, 0, 12, 34].into())),
            upstream: Some(([192, 0, 2, 7].into(), 443))
                .map(|(ip, port)| std::net::SocketAddrV4::new(ip, port)),
            bytes_in: 0,
            bytes_out: 18_446_744_073_709_551_615,
            queued: Some(Duration::ZERO),
            dns: Some(Duration::from_micros(1)),
            connect: Some(Duration::from_micros(1_500)),
            tls: Some(Duration::from_nanos(2_000_999)),
            upstream_time: Some(Duration::from_millis(45)),
            permit: Some(Duration::from_micros(45_120)),
            total: Duration::from_secs(60),
            retries: 1,
            kintone_running: Some(101),
            kintone_limit: Some(100),
            client: Some(Client(([10, 1, 2, 3], 50_000).into())),
            user_agent: Some("curl/8 \"q\" \\ \u{7f}\n企業".into()),
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
            ..Record::new(RequestId::from_random(1))
        }
    }

    #[test]
    fn a_full_line() {
        let expected = concat!(
            r#"{"ts":"2026-05-06T07:08:09.012Z","id":"10000000000000000000","host":"gw-a","#,
            r#""caller":"call-events","credential":"2","tenant":"company-1","priority":"batch","#,
            r#""purpose":"voicemail","account":"acme.cybozu.com","app":7,"mode":"forward","#,
            r#""method":"GET","path":"/k/v1/records.json","status":429,"#,
            r#""cause":"account-concurrency","kintone_code":"GAIA_TO04","kintone_id":"abc","#,
            r#""outcome":"kintone_error","detail":"response_cut","address":"18.177.83.94","#,
            r#""bind":"10.0.12.34","upstream":"192.0.2.7:443","bytes_in":0,"#,
            r#""bytes_out":18446744073709551615,"queued_ms":0,"dns_ms":0.001,"connect_ms":1.5,"#,
            r#""tls_ms":2,"upstream_ms":45,"permit_ms":45.12,"total_ms":60000,"retries":1,"#,
            r#""kintone_running":101,"kintone_limit":100,"client":"10.1.2.3:50000","#,
            "\"user_agent\":\"curl/8 \\\"q\\\" \\\\ \u{7f}\\n企業\",",
            r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}"#,
            "\n",
        );
        assert_eq!(line_of(&full()), expected);
    }

    #[test]
    fn what_is_unknown_is_null_and_every_field_is_there_in_order() {
        let names = |line: &str| {
            let map: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(line).unwrap();
            map
        };
        let empty = line_of(&Record::new(RequestId::from_random(0)));
        let (empty_map, full_map) = (names(&empty), names(&line_of(&full())));
        assert_eq!(empty_map.len(), 37);
        assert!(empty_map.keys().eq(full_map.keys()));
        for name in ["caller", "status", "queued_ms", "client", "trace_id"] {
            assert!(empty_map[name].is_null(), "{name}");
        }
        let mut from = 0;
        for name in CONTRACT {
            let at = empty[from..].find(&format!("\"{name}\":"));
            from += at.unwrap_or_else(|| panic!("{name} is missing or out of order"));
        }
        assert_eq!(CONTRACT.len(), 37);
    }

    const CONTRACT: [&str; 37] = [
        "ts",
        "id",
        "host",
        "caller",
        "credential",
        "tenant",
        "priority",
        "purpose",
        "account",
        "app",
        "mode",
        "method",
        "path",
        "status",
        "cause",
        "kintone_code",
        "kintone_id",
        "outcome",
        "detail",
        "address",
        "bind",
        "upstream",
        "bytes_in",
        "bytes_out",
        "queued_ms",
        "dns_ms",
        "connect_ms",
        "tls_ms",
        "upstream_ms",
        "permit_ms",
        "total_ms",
        "retries",
        "kintone_running",
        "kintone_limit",
        "client",
        "user_agent",
        "trace_id",
    ];
}
