//! How a row is checked against the gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::kintone::{Arrived, RawKintone, Reply, Then};
use crate::row::{After, Expect, Outcome, Passed, Reaction, Row};
use crate::support::caller::Answer;
use crate::support::inspect::PrivateCa;
use crate::support::invariants::check_refusal;
use crate::support::{House, basic};
use crate::wire::{Cut, End, Got, Wire, unchunk};

/// The gateway, the kintone behind it, and how many answers were to be counted.
pub struct Bench {
    pub house: Arc<House>,
    pub kintone: RawKintone,
    pub calls: AtomicUsize,
    /// The authority of inspected connections, where calls go inside one.
    pub inside: Option<PrivateCa>,
}

impl Bench {
    /// Fills in a row's text.
    pub fn fill(account: &str, text: &[u8]) -> Vec<u8> {
        let auth = format!("Proxy-Authorization: {}\r\n", basic("events"));
        let std = format!("Host: {account}\r\n{auth}");
        let mut filled = text.to_vec();
        let token = basic("events").split_off("Basic ".len());
        for (mark, value) in [
            ("{a}", account),
            ("{std}", &std),
            ("{auth}", &auth),
            ("{token}", &token),
        ] {
            filled = replace(&filled, mark.as_bytes(), value.as_bytes());
        }
        filled
    }

    /// A connection for calls to `account`.
    pub async fn connect(&self, account: &str) -> Wire {
        let Some(ca) = &self.inside else {
            return Wire::connect(self.house.proxy).await;
        };
        let caller = self.house.caller().trusting(&ca.pem);
        let caller = caller.offering(&[b"http/1.1"]);
        Wire::within(caller.secured(account).await.expect("it is let in"))
    }

    /// Checks a row; `account` is its own.
    pub async fn check(&self, row: &Row, account: &str) {
        let mut wire = self.connect(account).await;
        let method = method_of(row.send);
        wire.send(&Self::fill(account, row.send)).await;
        if row.expect.after() == After::Close {
            // What stands behind a message that ends its connection is never run.
            wire.send(&Self::fill(account, BEHIND)).await;
        }
        let got = match wire.answer(method).await {
            Ok(got) => got,
            Err(cut) => panic!("no answer, {:?}: {}", cut.by, text(&cut.came)),
        };
        self.calls.fetch_add(1, Ordering::Relaxed);
        match row.expect {
            Expect::Refused {
                status,
                code,
                detail,
                ..
            } => {
                self.check_refused(&got, status, code, detail, method).await;
                let mut arrived = self.kintone.arrived(account);
                if detail == "request_body_cut" {
                    // Its beginning was sent before the fault came; the end never is.
                    arrived.retain(|arrived| arrived.whole);
                }
                assert_eq!(text_of(&arrived), "", "reached kintone");
            }
            Expect::Passed(passed) => self.check_passed(&got, passed, account).await,
        }
        match row.expect.after() {
            After::Keep => {
                assert!(!closes(&got), "says close: {}", got.head);
                wire.send(&Self::fill(account, AGAIN)).await;
                let again = wire.answer("GET").await.expect("the connection lives on");
                assert_eq!(again.status, 200, "{}", again.head);
                self.calls.fetch_add(1, Ordering::Relaxed);
            }
            After::Close => {
                assert!(closes(&got), "does not say close: {}", got.head);
                self.check_closed(&mut wire, account).await;
            }
        }
    }

    /// The connection ended softly, with not a byte behind the answer, and nothing behind the
    /// request was run.
    pub async fn check_closed(&self, wire: &mut Wire, account: &str) {
        let Cut { came, by } = wire.rest().await;
        assert_eq!((text(&came), by), (String::new(), End::Close));
        let arrived = text_of(&self.kintone.arrived(account));
        assert!(!arrived.contains("/behind"), "{arrived}");
    }

    /// Everything a refusal must tell, in the answer and in the log.
    pub async fn check_refused(
        &self,
        got: &Got,
        status: u16,
        code: &str,
        detail: &str,
        method: &str,
    ) {
        let error = match code {
            "GW_BAD_REQUEST" | "GW_MISDIRECTED" => "http_request_error",
            "GW_UPSTREAM_RESET" => "connection_terminated",
            _ => "http_request_denied",
        };
        let answer = whole(got);
        if method != "HEAD" {
            check_refusal(&answer, status, code, error);
        }
        assert_eq!((got.status, &*got.reason), (status, code));
        let challenge = got.field("proxy-authenticate");
        assert_eq!(
            challenge.starts_with("Basic "),
            status == 407,
            "{challenge}"
        );
        assert_eq!(got.field("allow").is_empty(), status != 405, "{}", got.head);
        assert!(!got.field("date").is_empty(), "{}", got.head);
        let line = self.house.output.line_of(answer.id()).await;
        let outcome = code.trim_start_matches("GW_").to_ascii_lowercase();
        assert_eq!(
            (&line["status"], &line["outcome"], &line["detail"]),
            (&status.into(), &outcome.into(), &word(detail)),
            "{line}"
        );
    }

    async fn check_passed(&self, got: &Got, passed: Passed, account: &str) {
        assert_eq!(got.status, 200, "{} {}", got.head, text(&got.body));
        let arrived = self.kintone.arrived(account);
        let [arrived] = arrived.as_slice() else {
            panic!("{} requests at kintone", arrived.len());
        };
        assert!(arrived.whole, "{}", text(&arrived.raw));
        let lines = arrived.lines();
        let fields = lower(&lines);
        if !passed.line.is_empty() {
            assert_eq!(lines[0], text(&Self::fill(account, passed.line.as_bytes())));
        }
        for has in passed.has {
            let has = text(&Self::fill(account, has.as_bytes()));
            assert_eq!(
                fields.iter().filter(|line| **line == has).count(),
                1,
                "{has} in {lines:#?}"
            );
        }
        check_lacks(&lines, passed.lacks);
        check_lacks(&lines, NEVER_AT_KINTONE);
        let chunked = fields
            .iter()
            .any(|line| line == "transfer-encoding: chunked");
        let body = if chunked {
            unchunk(arrived.body()).0
        } else {
            arrived.body().to_vec()
        };
        assert_eq!(text(&body), text(passed.body), "{lines:#?}");
        check_has(got, passed.answer_has);
        self.house
            .output
            .line_of(got.field("kintone-egress-request-id"))
            .await;
    }

    /// Checks what becomes of an answer of kintone's.
    pub async fn react(&self, row: &Reaction, account: &str) {
        let first = Reply {
            on_head: b"",
            bytes: row.reply,
            then: row.then,
        };
        let send = if row.send.is_empty() { POST } else { row.send };
        let method = method_of(send);
        // A read whose outcome is unknown is tried once more.
        let again = matches!(row.outcome, Outcome::Refused(_)) && method != "POST";
        let tries = if again { 2 } else { 1 };
        self.kintone.script(account, &vec![first; tries]);
        let mut wire = self.connect(account).await;
        wire.send(&Self::fill(account, send)).await;
        let got = wire.answer(method).await;
        self.calls.fetch_add(1, Ordering::Relaxed);
        match (row.outcome, got) {
            (Outcome::Cut, Err(_)) => {}
            (Outcome::Cut, Ok(got)) => panic!("looks whole: {} {}", got.head, text(&got.body)),
            (_, Err(cut)) => panic!("no answer, {:?}: {}", cut.by, text(&cut.came)),
            (Outcome::Refused(detail), Ok(got)) => {
                let code = "GW_UPSTREAM_RESET";
                self.check_refused(&got, 502, code, detail, method).await;
            }
            (
                Outcome::Whole {
                    status,
                    has,
                    lacks,
                    body,
                },
                Ok(got),
            ) => {
                assert_eq!(
                    (got.status, &*text(&got.body)),
                    (status, &*text(body)),
                    "{}",
                    got.head
                );
                check_has(&got, has);
                check_lacks(&got.lines(), lacks);
                check_lacks(&got.lines(), NEVER_AT_THE_CALLER);
                let ours =
                    |line: &String| line.starts_with("via:") && line.ends_with(" kintone-egress");
                assert!(got.lines().iter().any(ours), "{}", got.head);
            }
        }
        self.check_reuse(row, account, tries).await;
    }

    async fn check_reuse(&self, row: &Reaction, account: &str, tries: usize) {
        if matches!(row.then, Then::Late(_)) {
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        }
        let mut wire = self.connect(account).await;
        wire.send(&Self::fill(account, AGAIN)).await;
        let again = wire.answer("GET").await.expect("a whole answer");
        assert_eq!(
            (again.status, &*again.body),
            (200, &b"{}"[..]),
            "{}",
            again.head
        );
        self.calls.fetch_add(1, Ordering::Relaxed);
        let arrived = self.kintone.arrived(account);
        assert_eq!(arrived.len(), tries + 1, "{}", text_of(&arrived));
        let same = arrived[tries - 1].connection == arrived[tries].connection;
        assert_eq!(same, row.reused, "the connection to kintone was reused");
    }
}

/// As the log writes a word, or none.
fn word(detail: &str) -> serde_json::Value {
    Some(detail).filter(|detail| !detail.is_empty()).into()
}

/// What is sent where a [`Reaction`] says nothing.
const POST: &[u8] =
    b"POST https://{a}/k/v1/record.json HTTP/1.1\r\n{std}Content-Length: 2\r\n\r\n{}";

/// A good call after a row's own.
const AGAIN: &[u8] = b"GET https://{a}/k/v1/again.json HTTP/1.1\r\n{std}\r\n";

/// A good call that must never be run.
const BEHIND: &[u8] = b"GET https://{a}/behind HTTP/1.1\r\n{std}\r\n";

/// Fields that end here whatever is said (RFC 9110 section 7.6.1; contract, section 5).
const NEVER_AT_KINTONE: &[&str] = &[
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "upgrade",
    "proxy-authorization",
    "traceparent",
    "tracestate",
    "baggage",
    "kintone-egress-tenant",
    "kintone-egress-priority",
    "kintone-egress-max-wait-ms",
    "kintone-egress-purpose",
];

const NEVER_AT_THE_CALLER: &[&str] = &["proxy-connection", "keep-alive", "upgrade"];

/// Each of these stands there once; `{any}` is any value.
fn check_has(got: &Got, has: &[&str]) {
    for has in has {
        let wanted = |line: &&String| match has.strip_suffix("{any}") {
            Some(name) => line.starts_with(name),
            None => *line == has,
        };
        assert_eq!(
            got.lines().iter().filter(wanted).count(),
            1,
            "{has} in {}",
            got.head
        );
    }
}

/// The same lines with names in lower case.
fn lower(lines: &[String]) -> Vec<String> {
    let fields = lines.iter().filter_map(|line| line.split_once(':'));
    fields
        .map(|(name, value)| format!("{}:{value}", name.to_ascii_lowercase()))
        .collect()
}

fn check_lacks(lines: &[String], lacks: &[&str]) {
    for name in lacks {
        let found = lines.iter().find(|line| {
            let (found, _) = line.split_once(':').unwrap_or((line, ""));
            found.eq_ignore_ascii_case(name)
        });
        assert_eq!(found, None, "{name} in {lines:#?}");
    }
}

fn closes(got: &Got) -> bool {
    got.field("connection").eq_ignore_ascii_case("close")
}

fn method_of(send: &'static [u8]) -> &'static str {
    let end = send.iter().position(|byte| *byte == b' ').unwrap_or(0);
    std::str::from_utf8(&send[..end]).unwrap_or_default()
}

/// As the shared checks read answers.
fn whole(got: &Got) -> Answer {
    let lines = got.lines();
    let headers = lines.iter().map(|line| {
        let (name, value) = line.split_once(':').expect("a field");
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        (name, value.trim().parse().expect("a value"))
    });
    Answer {
        status: got.status.try_into().expect("a status"),
        reason: got.reason.clone(),
        headers: headers.collect(),
        body: Bytes::from(got.body.clone()),
    }
}

fn replace(text: &[u8], mark: &[u8], value: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = crate::wire::find(rest, mark) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(value);
        rest = &rest[at + mark.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn text_of(arrived: &[Arrived]) -> String {
    arrived.iter().map(|one| text(&one.raw)).collect()
}
