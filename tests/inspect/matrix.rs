//! The same caller, account and call by every way in: equal verdict, charge and audit record.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;
use kintone_egress::config::token::hash_token;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::caller::{Answer, Caller, read, record};
use crate::support::inspect::PrivateCa;
use crate::support::{House, Plan, TOKEN, house};

/// How many different cases are tried, each by five ways.
const CASES: usize = 560;
const AT_ONCE: usize = 8;

const CALLERS: [&str; 6] = ["events", "nightly2", "narrow", "off", "wrong", "nobody"];
const HOSTS: [&str; 6] = [
    "acme.cybozu.com",
    "ACME.cybozu.com",
    "beta.cybozu.com",
    "shut.cybozu.com",
    "www.example.com",
    "zed.kintone.com",
];
/// What is said about a call: in headers, and the same in the proxy user name.
const SAID: [(&[(&str, &str)], &str); 7] = [
    (&[], ""),
    (&[("kintone-egress-tenant", "t1")], "+t1"),
    (&[("kintone-egress-tenant", "t2")], "+t2"),
    (
        &[
            ("kintone-egress-priority", "batch"),
            ("kintone-egress-purpose", "incoming"),
        ],
        ";priority=batch;purpose=incoming",
    ),
    (&[("kintone-egress-max-wait-ms", "0")], ";wait=0"),
    (&[("kintone-egress-priority", "urgent")], ";priority=urgent"),
    (
        &[
            ("kintone-egress-max-wait-ms", "1"),
            ("kintone-egress-max-wait-ms", "1"),
        ],
        ";wait=1;wait=1",
    ),
];
/// Which of [`SAID`] are malformed.
const MALFORMED: usize = 5;

/// Where it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    UserName,
    Connect,
    Inside,
}

const CALLS: [(&str, &str, &str); 9] = [
    ("GET", "/k/v1/records.json?app=1&query=limit%201", ""),
    ("POST", "/k/v1/record.json", "record"),
    ("POST", "/k/v1/records.json", r#"{"app":1,"records":[]}"#),
    (
        "PUT",
        "/k/v1/record.json",
        r#"{"app":1,"id":999999,"record":{}}"#,
    ),
    ("DELETE", "/k/v1/records.json?app=1&ids%5B0%5D=999999", ""),
    ("GET", "/k/v1/no-such-api.json", ""),
    ("HEAD", "/k/v1/records.json?app=1", ""),
    (
        "POST",
        "/k/v1/bulkRequest.json",
        r#"{"requests":[{"method":"POST","api":"/k/v1/records.json","payload":{"app":1,"records":[]}},{"method":"POST","api":"/k/v1/records.json","payload":{"app":2,"records":[]}}]}"#,
    ),
    ("GET", "/k/v1/records.json?app=1", "no key"),
];

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Http,
    Https,
    InspectH1,
    InspectH2,
    Tunnel,
}

const WAYS: [Way; 5] = [
    Way::Http,
    Way::Https,
    Way::InspectH1,
    Way::InspectH2,
    Way::Tunnel,
];

#[derive(Debug, Clone, Copy)]
struct Case {
    number: usize,
    caller: &'static str,
    host: &'static str,
    said: usize,
    place: Place,
    call: (&'static str, &'static str, &'static str),
}

impl Case {
    fn new(number: usize) -> Self {
        // A step that has no divisor in common with the number of all cases visits each once.
        let all = CALLERS.len() * HOSTS.len() * SAID.len() * 3 * CALLS.len();
        let mut at = number * 1_009 % all;
        let mut pick = |of: usize| {
            let picked = at % of;
            at /= of;
            picked
        };
        let (caller, host) = (CALLERS[pick(CALLERS.len())], HOSTS[pick(HOSTS.len())]);
        let said = pick(SAID.len());
        let place = [Place::UserName, Place::Connect, Place::Inside][pick(3)];
        // What is said inside is not heard where CONNECT is refused already.
        let connects = matches!(caller, "events" | "nightly2")
            && !matches!(host, "shut.cybozu.com" | "www.example.com");
        let place = if place == Place::Inside && said >= MALFORMED && !connects {
            Place::Connect
        } else {
            place
        };
        Self {
            number,
            caller,
            host,
            said,
            place,
            call: CALLS[pick(CALLS.len())],
        }
    }

    fn caller(&self, house: &House, way: Way) -> Caller {
        if self.caller == "nobody" {
            return house.nobody();
        }
        let name = if self.caller == "wrong" {
            "events"
        } else {
            self.caller
        };
        // A caller that may only tunnel stands for the same one that is inspected.
        let twin = if way == Way::Tunnel { "-t" } else { "" };
        let token = match self.caller {
            "wrong" => "not-the-token".to_owned(),
            _ => token_of(&format!("{name}{twin}")),
        };
        let said = if self.place == Place::UserName {
            SAID[self.said].1
        } else {
            ""
        };
        house.caller_as(&format!("{name}{twin}{said}"), &token)
    }

    fn headers(&self, place: Place) -> impl Iterator<Item = (&'static str, &'static str)> {
        let is_there = self.place == place && place != Place::UserName;
        let said = is_there.then_some(SAID[self.said].0);
        said.into_iter().flatten().copied()
    }

    fn body(&self, way: Way) -> String {
        match self.call.2 {
            "record" => record(&format!("matrix {:04} {}", self.number, way as usize)),
            "no key" => String::new(),
            body => body.to_owned(),
        }
    }

    /// The call in this form, with what is said at `place`.
    fn request(&self, way: Way, target: &str, place: Place) -> Request<Full<bytes::Bytes>> {
        let method = Method::from_bytes(self.call.0.as_bytes()).unwrap();
        let mut request = Caller::inner(method, self.host, target, self.body(way));
        if self.call.2 == "no key" {
            request.headers_mut().remove("x-cybozu-api-token");
        }
        let headers = request.headers_mut();
        headers.insert("user-agent", HeaderValue::from_static("matrix/1"));
        for (name, value) in self.headers(place) {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        request
    }

    /// Makes the call.
    async fn call(&self, house: &House, ca: &PrivateCa, way: Way) -> Answer {
        let caller = self.caller(house, way);
        let path = self.call.1;
        if matches!(way, Way::Http | Way::Https) {
            let scheme = if way == Way::Http { "http" } else { "https" };
            let url = format!("{scheme}://{}{path}", self.host);
            let mut request = self.request(way, &url, self.place);
            if let Some(authorization) = caller.authorization() {
                request
                    .headers_mut()
                    .insert("proxy-authorization", authorization);
            }
            return caller.send(request).await.expect("an answer");
        }
        let mut head = format!("CONNECT {0}:443 HTTP/1.1\r\nHost: {0}:443\r\n", self.host);
        if self.caller != "nobody" {
            head.push_str("Proxy-Authorization: {auth}\r\n");
        }
        let place = if way == Way::Tunnel && self.place == Place::Inside {
            Place::Inside
        } else {
            Place::Connect
        };
        for (name, value) in self.headers(place) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        let tunnel = match caller.open_tunnel_by(&head).await {
            Ok(tunnel) => tunnel,
            Err(refusal) => return refusal,
        };
        let sni = self.host.to_ascii_lowercase();
        let (caller, protocol): (_, &[u8]) = match way {
            Way::Tunnel => (caller, b"http/1.1"),
            Way::InspectH2 => (caller.trusting(&ca.pem), b"h2"),
            Way::Http | Way::Https | Way::InspectH1 => (caller.trusting(&ca.pem), b"http/1.1"),
        };
        let tls = caller
            .offering(&[protocol])
            .tls(tunnel, &sni)
            .await
            .expect("TLS");
        let place = if way == Way::Tunnel {
            Place::UserName
        } else {
            Place::Inside
        };
        let response = if way == Way::InspectH2 {
            let url = format!("https://{}{path}", self.host);
            let request = self.request(way, &url, place);
            let mut sender = Caller::h2_over(tls).await;
            sender.send_request(request).await.expect("an answer")
        } else {
            let mut request = self.request(way, path, place);
            if way == Way::Tunnel {
                // Nobody makes it right on the way.
                request.headers_mut().insert("host", sni.parse().unwrap());
            }
            let mut sender = Caller::h1_over(tls).await;
            sender.send_request(request).await.expect("an answer")
        };
        read(response).await.expect("a whole answer")
    }
}

/// What the caller is told: status, and whose word it is.
fn verdict(case: &Case, answer: &Answer) -> (u16, String) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    // An answer to HEAD has none, but a refused CONNECT before it has.
    let code = body["code"].as_str().filter(|_| case.call.0 != "HEAD");
    (answer.status.as_u16(), code.unwrap_or_default().to_owned())
}

/// The fields that must be equal by every way in.
const AUDIT: [&str; 19] = [
    "caller",
    "credential",
    "tenant",
    "priority",
    "purpose",
    "account",
    "app",
    "method",
    "path",
    "status",
    "cause",
    "kintone_code",
    "outcome",
    "detail",
    "bytes_in",
    "retries",
    "kintone_limit",
    "user_agent",
    "trace_id",
];

/// Of a call that was refused at CONNECT, these: nothing was heard of the call itself.
const AUDIT_OF_CONNECT: [&str; 6] = [
    "caller",
    "credential",
    "account",
    "status",
    "outcome",
    "detail",
];

fn audit(line: &Value, fields: &[&str]) -> Map<String, Value> {
    let mut audit: Map<_, _> = fields
        .iter()
        .map(|name| ((*name).to_owned(), line[*name].clone()))
        .collect();
    if let Some(Value::String(caller)) = audit.get_mut("caller") {
        *caller = caller.trim_end_matches("-t").to_owned();
    }
    // Whether there was one; how long it was held differs from call to call.
    audit.insert("permit".to_owned(), (!line["permit_ms"].is_null()).into());
    audit.insert("address".to_owned(), (!line["address"].is_null()).into());
    audit
}

async fn check(house: &House, ca: &PrivateCa, case: Case) -> u64 {
    let mut first: Option<((u16, String), Value)> = None;
    let mut permits = 0;
    for way in WAYS {
        let answer = case.call(house, ca, way).await;
        let told = verdict(&case, &answer);
        if way == Way::Tunnel && !answer.id().is_empty() || way != Way::Tunnel {
            let line = house.output.wait_for(answer.id()).await;
            permits += u64::from(!line["permit_ms"].is_null());
            match &first {
                None => first = Some((told, line)),
                Some((expected, by_forward)) => {
                    assert_eq!(&told, expected, "{way:?} {case:?}");
                    let is_connect = line["method"] == "CONNECT";
                    let fields = if is_connect {
                        &AUDIT_OF_CONNECT[..]
                    } else {
                        &AUDIT[..]
                    };
                    assert_eq!(
                        audit(&line, fields),
                        audit(by_forward, fields),
                        "{way:?} {case:?}"
                    );
                }
            }
        } else {
            // kintone's own answer: the line comes when the tunnel has closed.
            let (expected, by_forward) = first.as_ref().expect("forward came first");
            assert_eq!(&told, expected, "{way:?} {case:?}");
            assert!(!by_forward["permit_ms"].is_null(), "{case:?}");
            permits += 1;
        }
    }
    permits
}

fn token_of(name: &str) -> String {
    match name {
        "events" => TOKEN.to_owned(),
        name => format!("canary-{name}-5f1c"),
    }
}

fn tables(ca: &PrivateCa) -> String {
    let table = |name: &str, more: &str| {
        let hash = hash_token(token_of(name).as_bytes()).to_hex();
        format!("[[caller]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\n{more}\n")
    };
    let mut tables = ca.table();
    for (name, more) in [
        ("events", ""),
        ("nightly2", "priority = \"batch\""),
        (
            "narrow",
            "accounts = [\"acme.cybozu.com\"]\ntenants = [\"t1\"]",
        ),
        ("off", "enabled = false"),
    ] {
        tables.push_str(&table(
            &format!("{name}-t"),
            &format!("modes = [\"tunnel\"]\n{more}"),
        ));
        if name != "events" {
            tables.push_str(&table(name, more));
        }
    }
    tables.push_str("[account.\"shut.cybozu.com\"]\nenabled = false\n");
    tables
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_comes_to_the_same() {
    try_cases(0..CASES / 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_comes_to_the_same_in_the_other_half() {
    try_cases(CASES / 2..CASES).await;
}

async fn try_cases(numbers: Range<usize>) {
    let ca = Arc::new(PrivateCa::new());
    let plan = Plan {
        tables: tables(&ca),
        ..Plan::default()
    };
    house(plan, async |house| {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut running = JoinSet::new();
        for number in numbers {
            let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
            let (house, ca) = (Arc::clone(&house), Arc::clone(&ca));
            running.spawn(async move {
                let _turn = turn;
                check(&house, &ca, Case::new(number)).await
            });
        }
        let permits: u64 = running.join_all().await.into_iter().sum();
        assert!(permits > 5 * 30, "{permits} calls were sent");
        house
            .until("every permit is back", |house| {
                house.quotas.balance().held == 0
            })
            .await;
        assert_eq!(
            house.quotas.balance().acquired,
            permits,
            "one permit a call"
        );
    })
    .await;
}

/// Calls until one is refused: how many were let through, against how many may have been.
async fn spend(house: &House, ca: &PrivateCa, way: Way) {
    const BURST: u32 = 20;
    let account = format!("rate-{}.cybozu.com", way as usize);
    let account: &'static str = Box::leak(account.into_boxed_str());
    let case = Case {
        host: account,
        said: 4,
        place: Place::UserName,
        ..Case::new(0)
    };
    let case = Case {
        caller: "events",
        call: CALLS[0],
        ..case
    };
    let (since, mut passed) = (tokio::time::Instant::now(), 0);
    loop {
        let answer = case.call(house, ca, way).await;
        if answer.status.as_u16() == 429 {
            assert_eq!(answer.code(), "GW_RATE_LIMITED");
            break;
        }
        passed += 1;
        assert!(passed < 500, "{way:?} spends nothing");
    }
    let refilled = u32::try_from(since.elapsed().as_secs()).unwrap() + 1;
    assert!(
        (BURST..=BURST + refilled).contains(&passed),
        "{way:?}: {passed}"
    );
}

#[tokio::test]
async fn every_way_in_spends_one_rate_token_a_call() {
    let ca = PrivateCa::new();
    let plan = Plan {
        tables: tables(&ca),
        quota: "rate = 1\nburst = 20".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        for way in WAYS {
            spend(&house, &ca, way).await;
        }
    })
    .await;
}
