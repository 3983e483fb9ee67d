//! The list over time, and what is made of it.

use std::net::Ipv4Addr;

use encoding_rs::SHIFT_JIS;
use http::{Method, Request, StatusCode};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::documents::{ATOM, CSV, JSON, PAGE_EN, PAGE_JA, Site, TEXT};
use super::judge::{Alarm, Judged, judge};
use super::memory::{CHANGES_MAX, Memory};
use super::serve::answer;
use super::store;
use crate::config::AddressState::{self, Active, Planned, Retiring};
use crate::config::{EgressAddress, Notice, Public};
use crate::model::Published;

const A: Ipv4Addr = Ipv4Addr::new(18, 177, 83, 94);
const B: Ipv4Addr = Ipv4Addr::new(35, 73, 236, 241);
const C: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// A gateway through the months: what it remembers goes through its file's form each time.
struct Months {
    memory: Option<Memory>,
    now: Timestamp,
}

impl Months {
    fn at(text: &str) -> Self {
        Self {
            memory: None,
            now: text.parse().unwrap(),
        }
    }

    fn after_days(&mut self, days: i64) -> &mut Self {
        self.now += SignedDuration::from_hours(24 * days);
        self
    }

    fn publish(&mut self, configured: &[EgressAddress]) -> Judged {
        let judged = judge(
            configured,
            self.memory.as_ref(),
            Notice::default(),
            self.now,
        );
        let bytes = serde_json::to_vec(&judged.memory).unwrap();
        let memory: Memory = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(memory, judged.memory);
        self.memory = Some(memory);
        judged
    }
}

fn address(ip: Ipv4Addr, state: AddressState) -> EgressAddress {
    EgressAddress {
        published: Published(ip),
        bind: None,
        state,
        elsewhere: Vec::new(),
        valid_from: None,
        retire_after: None,
    }
}

fn from(ip: Ipv4Addr, state: AddressState, day: &str) -> EgressAddress {
    EgressAddress {
        valid_from: Some(date(day)),
        ..address(ip, state)
    }
}

fn until(ip: Ipv4Addr, state: AddressState, day: &str) -> EgressAddress {
    EgressAddress {
        retire_after: Some(date(day)),
        ..address(ip, state)
    }
}

fn date(text: &str) -> Date {
    text.parse().unwrap()
}

fn states(judged: &Judged) -> Vec<(Ipv4Addr, AddressState)> {
    let states = judged.list.states();
    states
        .into_iter()
        .map(|(of, state)| (of.0, state))
        .collect()
}

#[test]
fn the_first_list_is_taken_as_it_is() {
    let mut site = Months::at("2026-11-25T03:00:00Z");
    let configured = [
        address(A, Active),
        from(B, Active, "2020-04-01"),
        address(C, Retiring),
    ];
    let first = site.publish(&configured);
    assert_eq!(states(&first), [(A, Active), (B, Active), (C, Retiring)]);
    assert_eq!(first.alarms, []);
    assert_eq!(first.list.changes, [], "customers know them");
    assert_eq!(first.list.entries[0].valid_from, None, "nobody knows");
    assert_eq!(first.list.entries[1].valid_from, Some(date("2020-04-01")));
    let again = site.after_days(5).publish(&configured);
    assert_eq!(again.list, first.list);
}

#[test]
fn a_new_address_is_held_until_customers_had_their_notice() {
    let mut site = Months::at("2026-11-25T03:00:00Z");
    site.publish(&[address(A, Active), address(B, Active)]);
    let configured = [address(A, Active), address(B, Active), address(C, Active)];
    let held = site.publish(&configured);
    assert_eq!(states(&held), [(A, Active), (B, Active), (C, Planned)]);
    let until = date("2026-12-26");
    assert_eq!(held.alarms, [Alarm::Held { address: C, until }]);
    assert_eq!(held.list.entries[2].valid_from, Some(until));
    // The last second of the day before, Japan's time.
    site.now = "2026-12-25T14:59:59Z".parse().unwrap();
    assert_eq!(states(&site.publish(&configured))[2], (C, Planned));
    site.now = "2026-12-25T15:00:00Z".parse().unwrap();
    let used = site.publish(&configured);
    assert_eq!(states(&used)[2], (C, Active));
    assert_eq!(used.alarms, []);
    assert_eq!(used.list.entries[2].valid_from, Some(until), "since then");
    assert_eq!(used.list.changed, site.now);
}

#[test]
fn a_planned_address_is_used_from_its_day_on() {
    let mut site = Months::at("2026-11-25T03:00:00Z");
    site.publish(&[address(A, Active)]);
    let planned = [address(A, Active), from(C, Planned, "2027-01-10")];
    let announced = site.publish(&planned);
    assert_eq!(announced.alarms, []);
    assert_eq!(states(&announced)[1], (C, Planned));
    site.now = "2027-01-09T14:59:59Z".parse().unwrap();
    assert_eq!(states(&site.publish(&planned))[1], (C, Planned));
    site.now = "2027-01-09T15:00:00Z".parse().unwrap();
    assert_eq!(states(&site.publish(&planned))[1], (C, Active));
    // Without a day it waits for the word of the file.
    let mut site = Months::at("2026-11-25T03:00:00Z");
    site.publish(&[address(A, Active), address(C, Planned)]);
    site.after_days(400);
    let still = site.publish(&[address(A, Active), address(C, Planned)]);
    assert_eq!(states(&still)[1], (C, Planned));
    let used = site.publish(&[address(A, Active), address(C, Active)]);
    assert_eq!(states(&used)[1], (C, Active));
    assert_eq!(used.alarms, []);
}

#[test]
fn a_day_that_comes_too_early_is_put_off_and_told_at_once() {
    let mut site = Months::at("2026-11-25T03:00:00Z");
    site.publish(&[address(A, Active)]);
    let hasty = [address(A, Active), from(C, Planned, "2026-12-01")];
    let announced = site.publish(&hasty);
    let until = date("2026-12-26");
    assert_eq!(announced.alarms, [Alarm::Held { address: C, until }]);
    assert_eq!(announced.list.entries[1].valid_from, Some(until));
    let on_the_day = site.after_days(7).publish(&hasty);
    assert_eq!(states(&on_the_day)[1], (C, Planned));
    assert_eq!(states(&site.after_days(30).publish(&hasty))[1], (C, Active));
    // What stands on the first list as planned is no exception.
    let mut site = Months::at("2026-11-25T03:00:00Z");
    site.publish(&[address(A, Active), address(C, Planned)]);
    let hasty = site.publish(&[address(A, Active), address(C, Active)]);
    assert_eq!(states(&hasty)[1], (C, Planned));
}

#[test]
fn what_is_in_use_is_not_taken_back_and_may_come_back() {
    let mut site = Months::at("2026-11-25T03:00:00Z");
    site.publish(&[address(A, Active), address(B, Active)]);
    for state in [Planned, Retiring, Active] {
        let judged = site
            .after_days(1)
            .publish(&[address(A, Active), address(B, state)]);
        assert_eq!(states(&judged)[1], (B, state));
        assert_eq!(judged.alarms, []);
    }
    // A longer notice does not stop an address that has had the shorter one.
    let short = Notice {
        minimum_days: 0,
        ..Notice::default()
    };
    let added = [address(A, Active), address(C, Active)];
    let used = judge(&added, site.memory.as_ref(), short, site.now);
    assert_eq!(used.list.states()[1], (Published(C), Active));
    let longer = judge(&added, Some(&used.memory), Notice::default(), site.now);
    assert_eq!(longer.list.states()[1], (Published(C), Active));
}

#[test]
fn an_address_that_is_left_out_stays_for_the_overlap() {
    let mut site = Months::at("2026-11-25T03:00:00Z");
    site.publish(&[address(A, Active), address(B, Active)]);
    let left = site.publish(&[address(A, Active)]);
    assert_eq!(states(&left), [(A, Active), (B, Retiring)]);
    let until = date("2027-02-24");
    assert_eq!(left.alarms, [Alarm::Kept { address: B, until }]);
    assert_eq!(left.list.entries[1].retire_after, Some(date("2026-11-25")));
    site.now = "2027-02-23T14:59:59Z".parse().unwrap();
    assert_eq!(site.publish(&[address(A, Active)]).list.entries.len(), 2);
    site.now = "2027-02-23T15:00:00Z".parse().unwrap();
    let gone = site.publish(&[address(A, Active)]);
    assert_eq!(states(&gone), [(A, Active)]);
    assert_eq!(gone.alarms, []);
    assert_eq!(gone.list.changes.len(), 2, "{:?}", gone.list.changes);
}

#[test]
fn a_retiring_address_may_go_after_the_overlap() {
    let mut site = Months::at("2026-11-25T03:00:00Z");
    let ending = [address(A, Active), until(B, Active, "2026-12-01")];
    assert_eq!(states(&site.publish(&ending))[1], (B, Active));
    site.now = "2026-11-30T15:00:00Z".parse().unwrap();
    assert_eq!(states(&site.publish(&ending))[1], (B, Retiring));
    let kept = site.after_days(89).publish(&[address(A, Active)]);
    assert_eq!(kept.alarms.len(), 1);
    let gone = site.after_days(1).publish(&[address(A, Active)]);
    assert_eq!((gone.alarms.len(), gone.list.entries.len()), (0, 1));
    // Of a first list, the day that customers were told of counts.
    let mut site = Months::at("2026-11-25T03:00:00Z");
    site.publish(&[address(A, Active), until(B, Retiring, "2026-06-01")]);
    assert_eq!(site.publish(&[address(A, Active)]).list.entries.len(), 1);
    // Nothing ever came from a planned one.
    let mut site = Months::at("2026-11-25T03:00:00Z");
    site.publish(&[address(A, Active), address(C, Planned)]);
    let gone = site.publish(&[address(A, Active)]);
    assert_eq!((gone.alarms.len(), gone.list.entries.len()), (0, 1));
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut site = Months::at("2026-11-25T03:00:00Z");
    let configured = [address(A, Active), from(B, Active, "2026-11-25")];
    let right = site.publish(&configured);
    site.now = Timestamp::UNIX_EPOCH;
    assert_eq!(site.publish(&configured).list, right.list);
}

#[test]
fn changes_are_remembered_up_to_a_bound() {
    let mut now: Timestamp = "2026-11-25T03:00:00Z".parse().unwrap();
    let mut memory = None;
    for day in 0..=CHANGES_MAX {
        now += SignedDuration::from_hours(24);
        let state = if day % 2 == 0 { Active } else { Retiring };
        let configured = [address(A, state)];
        memory = Some(judge(&configured, memory.as_ref(), Notice::default(), now).memory);
    }
    let changes = memory.unwrap().changes;
    assert_eq!(changes.len(), CHANGES_MAX);
    assert_eq!(changes.last().unwrap().at, now, "the latest are kept");
}

#[test]
fn a_memory_is_read_back_or_said_to_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    assert!(store::read(dir.path()).unwrap().is_none());
    let mut site = Months::at("2026-11-25T03:00:00Z");
    let memory = site
        .publish(&[address(A, Active), address(C, Planned)])
        .memory;
    store::write(dir.path(), &memory).unwrap();
    assert_eq!(store::read(dir.path()).unwrap(), Some(memory.clone()));
    let newer = Memory {
        layout: 2,
        ..memory
    };
    store::write(dir.path(), &newer).unwrap();
    let error = store::read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("layout is 2"), "{error}");
    for damaged in ["", "{}", "[1", "\0\0\0"] {
        std::fs::write(dir.path().join(store::MEMORY), damaged).unwrap();
        assert!(store::read(dir.path()).is_err(), "{damaged:?}");
    }
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing unfinished is left");
}

fn rendered() -> Site {
    let mut site = Months::at("2026-11-25T03:00:00Z");
    site.publish(&[address(A, Active), from(B, Active, "2020-04-01")]);
    let judged = site.publish(&[
        address(A, Active),
        from(B, Active, "2020-04-01"),
        from(C, Planned, "2027-01-10"),
    ]);
    let public = Public {
        service: Some("電話 & \"Phone\" <1>".to_owned()),
        ..Public::default()
    };
    Site::render(&judged.list, &public, site.now)
}

fn content(site: &Site, name: &str) -> String {
    let bytes = site.document(name).unwrap().bytes.to_vec();
    String::from_utf8(bytes).unwrap()
}

/// The form of the help page: `"192.0.2.8","","Tokyo office"` below the header, in Shift-JIS with
/// CRLF.
#[test]
fn the_csv_is_what_cybozu_com_imports() {
    let site = rendered();
    let bytes = &site.document(CSV).unwrap().bytes;
    let (text, _, is_broken) = SHIFT_JIS.decode(bytes);
    assert!(!is_broken);
    assert!(std::str::from_utf8(bytes).is_err(), "it is not UTF-8");
    assert_eq!(
        text,
        "\"IP Address\",\"CIDR\",\"Memo\"\r\n\
         \"18.177.83.94\",\"\",\"電話 & \"\"Phone\"\" <1> 接続元 1/3\"\r\n\
         \"35.73.236.241\",\"\",\"電話 & \"\"Phone\"\" <1> 接続元 2/3\"\r\n\
         \"203.0.113.9\",\"\",\"電話 & \"\"Phone\"\" <1> 接続元 3/3 2027-01-10から使用\"\r\n"
    );
    // A name that Shift-JIS cannot spell gives way.
    let mut gateway = Months::at("2026-11-25T03:00:00Z");
    let list = gateway.publish(&[address(A, Active)]).list;
    let public = Public {
        service: Some("📞".to_owned()),
        ..Public::default()
    };
    let site = Site::render(&list, &public, gateway.now);
    let (text, _, _) = SHIFT_JIS.decode(&site.document(CSV).unwrap().bytes);
    assert!(text.contains("\"kintone連携 接続元 1/1\""), "{text}");
}

#[test]
fn json_and_text_have_every_address() {
    let site = rendered();
    assert_eq!(
        content(&site, TEXT),
        "18.177.83.94/32\n35.73.236.241/32\n203.0.113.9/32\n"
    );
    let json: Value = serde_json::from_str(&content(&site, JSON)).unwrap();
    assert_eq!(json["syncToken"], "1795575600");
    assert_eq!(json["createDate"], "2026-11-25T03:00:00Z");
    assert_eq!(json["ipv6_prefixes"], serde_json::json!([]));
    let prefixes = json["prefixes"].as_array().unwrap();
    let words: Vec<_> = prefixes
        .iter()
        .map(|one| {
            let word = |key: &str| one[key].as_str().unwrap_or("null").to_owned();
            [word("ip_prefix"), word("state"), word("valid_from")]
        })
        .collect();
    assert_eq!(
        words,
        [
            ["18.177.83.94/32", "active", "null"],
            ["35.73.236.241/32", "active", "2020-04-01"],
            ["203.0.113.9/32", "planned", "2027-01-10"],
        ]
    );
}

#[test]
fn pages_name_the_addresses_and_escape_the_rest() {
    let site = rendered();
    for (name, both, since) in [
        (
            PAGE_JA,
            "3 個すべて必要です",
            "2020年4月1日から使用しています",
        ),
        (PAGE_EN, "All 3 are needed", "In use since 1 April 2020"),
    ] {
        let page = content(&site, name);
        let line = "18.177.83.94/32, 35.73.236.241/32, 203.0.113.9/32";
        for word in [line, both, since, "<code>203.0.113.9/32</code>"] {
            assert!(page.contains(word), "{name}: {word}");
        }
        assert!(!page.contains("<1>"), "{name}: markup of the configuration");
        assert!(!page.contains("<script"), "{name}");
    }
    // Both languages have the same parts.
    let parts = |name| -> Vec<String> {
        let page = content(&site, name);
        let ids = page.split("<h2 id=\"").skip(1);
        ids.map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(parts(PAGE_JA), parts(PAGE_EN));
    assert!(content(&site, ATOM).contains("203.0.113.9/32"));
}

fn ask(
    site: &Site,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> http::Response<bytes::Bytes> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    answer(site, &head)
}

#[test]
fn what_a_client_has_already_is_not_sent_again() {
    let site = rendered();
    for name in [PAGE_JA, JSON, TEXT, CSV, ATOM] {
        let path = format!("/{name}");
        let first = ask(&site, Method::GET, &path, &[]);
        assert_eq!(first.status(), StatusCode::OK, "{name}");
        let header = |name: &str| first.headers()[name].to_str().unwrap().to_owned();
        let (tag, date) = (header("etag"), header("last-modified"));
        assert_eq!(date, "Wed, 25 Nov 2026 03:00:00 GMT", "{name}");
        let weak = format!("\"other\", W/{tag}");
        let status = |headers: &[_]| ask(&site, Method::GET, &path, headers).status();
        for known in [
            &[("if-none-match", tag.as_str())][..],
            &[("if-none-match", weak.as_str())],
            &[("if-none-match", "*")],
            &[("if-modified-since", date.as_str())],
        ] {
            let again = ask(&site, Method::GET, &path, known);
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known:?}");
            assert!(again.body().is_empty());
            assert_eq!(again.headers()["etag"], tag.as_str());
        }
        for new in [
            &[("if-none-match", "\"other\"")][..],
            &[
                ("if-none-match", "\"other\""),
                ("if-modified-since", date.as_str()),
            ],
            &[("if-modified-since", "Wed, 25 Nov 2026 02:59:59 GMT")],
            &[("if-modified-since", "yesterday")],
        ] {
            assert_eq!(status(new), StatusCode::OK, "{new:?}");
        }
    }
}

#[test]
fn only_reading_is_answered_and_politely() {
    let site = rendered();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::TRACE] {
        let refused = ask(&site, method, "/egress-ips.json", &[]);
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refused.headers()["allow"], "GET, HEAD, OPTIONS");
    }
    for path in [
        "/nothing",
        "/egress-ips.json/",
        "//",
        "/../etc/passwd",
        "/Index.html",
    ] {
        let absent = ask(&site, Method::GET, path, &[]);
        assert_eq!(absent.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(!absent.body().is_empty());
    }
    let preflight = ask(&site, Method::OPTIONS, "/egress-ips.json", &[]);
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
    let feed = ask(&site, Method::GET, "/egress-ips.json?x", &[]);
    assert_eq!(feed.headers()["access-control-allow-origin"], "*");
    for answer in [preflight, feed, ask(&site, Method::GET, "/", &[])] {
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
}

#[test]
fn the_root_speaks_the_language_that_is_asked_for() {
    let site = rendered();
    let language = |path, headers: &[_]| {
        let page = ask(&site, Method::GET, path, headers);
        assert_eq!(page.headers()["vary"], "Accept-Language");
        page.headers()["content-language"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(language("/", &[]), "ja");
    assert_eq!(
        language("/", &[("accept-language", "en-US,en;q=0.9")]),
        "en"
    );
    assert_eq!(language("/?lang=en", &[]), "en");
    assert_eq!(language("/?lang=ja", &[("accept-language", "en")]), "ja");
}
