//! Every API of the official OpenAPI description, in each form in which a client may call it.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use kintone_egress::kintone::call::{Apps, Counted, Knowledge, Meaning, Repeat, Subject, template};
use kintone_egress::model::AppId;

const TABLE: &str = include_str!("../corpus/apis.txt");
const APP: u64 = 4711;
const CURSOR: &str = "9a9716fe-1394-4677-a1c7-2199a5d28215";

/// A line of the table.
struct Row {
    method: Method,
    path: &'static str,
    app: &'static str,
    counted: Counted,
    repeat: Repeat,
}

/// A call that names the app, in the query or in its body.
struct Form {
    query: Option<String>,
    body: Option<String>,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [method, path, app, counted, repeat] = fields[..] else {
                panic!("{line}");
            };
            Row {
                method: method.parse().unwrap(),
                path,
                app,
                counted: match counted {
                    "yes" => Counted::Yes,
                    "no" => Counted::No,
                    "inner" => Counted::Inner,
                    _ => panic!("{line}"),
                },
                repeat: match repeat {
                    "safe" => Repeat::Safe,
                    "unsafe" => Repeat::Unsafe,
                    _ => panic!("{line}"),
                },
            }
        })
        .collect()
}

impl Row {
    /// As a client sends it.
    fn concrete(&self) -> String {
        self.path.replace("{guestSpaceId}", "42")
    }

    fn template(&self) -> String {
        self.path.replace("{guestSpaceId}", "{space}")
    }

    /// Every way to name the app.
    fn forms(&self) -> Vec<Form> {
        let query = |query: String| Form {
            query: Some(query),
            body: None,
        };
        let body = |body: String| Form {
            query: None,
            body: Some(body),
        };
        match self.app {
            "app" => vec![
                query(format!("app={APP}")),
                query(format!("query=x%26app%3D1&app={APP}&fields%5B0%5D=app")),
                body(format!(r#"{{"app":{APP},"record":{{"app":1}}}}"#)),
                body(format!(r#"{{"records":[{{"app":"1"}}],"app":"{APP}"}}"#)),
            ],
            "id" => vec![
                query(format!("id={APP}")),
                body(format!(r#"{{"id":"{APP}"}}"#)),
            ],
            "apps[]" => vec![
                query(format!("apps[0]={APP}")),
                query(format!("apps%5B0%5D={APP}")),
                body(format!(r#"{{"apps":[{APP}]}}"#)),
            ],
            "apps[].app" => vec![body(format!(
                r#"{{"revert":false,"apps":[{{"revision":"2","app":{APP}}}]}}"#
            ))],
            "requests[].payload.app" => vec![
                body(format!(
                    r#"{{"requests":[{{"method":"POST","api":"/k/v1/record.json","payload":{{"app":{APP},"record":{{}}}}}}]}}"#
                )),
                body(format!(
                    r#"{{"requests":[{{"payload":{{"records":[],"app":"{APP}"}},"api":"/k/guest/42/v1/records.json","method":"PUT"}}]}}"#
                )),
            ],
            "cursor" => vec![
                query(format!("id={CURSOR}")),
                body(format!(r#"{{"id":"{CURSOR}"}}"#)),
            ],
            "-" => vec![
                query("app=1&id=2".to_owned()),
                body(r#"{"app":1,"id":2}"#.to_owned()),
            ],
            other => panic!("{other}"),
        }
    }

    /// As itself, and as a POST that stands for it.
    fn calls(&self) -> Vec<(Method, HeaderMap)> {
        let value = HeaderValue::from_str(self.method.as_str()).unwrap();
        let name = HeaderName::from_static("x-http-method-override");
        vec![
            (self.method.clone(), HeaderMap::new()),
            (Method::POST, HeaderMap::from_iter([(name, value)])),
        ]
    }
}

fn subject(meaning: &Meaning, body: Option<&str>) -> Subject {
    let mut reader = body.and_then(|_| meaning.body_reader());
    if let (Some(reader), Some(body)) = (&mut reader, body) {
        body.as_bytes()
            .chunks(7)
            .for_each(|piece| reader.feed(piece));
    }
    meaning.subject(reader.as_ref())
}

#[test]
fn every_api_is_understood_in_every_form() {
    let rows = rows();
    assert_eq!(rows.len(), 204, "the description has so many");
    let mut checked = 0;
    for row in &rows {
        let at = format!("{} {}", row.method, row.path);
        for (method, headers) in row.calls() {
            for Form { query, body } in row.forms() {
                let path = row.concrete();
                let meaning = Meaning::read(&method, &headers, &path, query.as_deref());
                assert_eq!(meaning.method, row.method, "{at}");
                assert_eq!(meaning.path, row.template(), "{at}");
                assert_eq!(template(&path), row.template(), "{at}");
                assert_eq!(meaning.counted, row.counted, "{at}");
                assert_eq!(meaning.repeat, row.repeat, "{at}");
                let makes_cursor = row.path.ends_with("cursor.json") && row.method == Method::POST;
                assert_eq!(meaning.makes_cursor, makes_cursor, "{at}");
                match (row.app, subject(&meaning, body.as_deref())) {
                    ("cursor", Subject::Cursor(_)) => {}
                    ("-", Subject::Apps(apps)) => {
                        assert_eq!(
                            (apps.knowledge(), apps.iter().count()),
                            (Knowledge::Whole, 0)
                        );
                    }
                    (_, Subject::Apps(apps)) => {
                        assert_eq!(apps.only(), Some(AppId(APP)), "{at} {query:?} {body:?}");
                        let by_head = query.is_some().then_some(AppId(APP));
                        assert_eq!(meaning.app(), by_head, "{at}");
                    }
                    (_, other) => panic!("{at}: {other:?}"),
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 1000, "{checked}");
}

#[test]
fn a_call_that_does_not_say_its_app_is_about_an_unknown_one() {
    for row in rows().iter().filter(|row| row.app != "-") {
        let meaning = Meaning::read(&row.method, &HeaderMap::new(), &row.concrete(), None);
        for body in [None, Some(""), Some("{}"), Some("{"), Some("<xml/>")] {
            let Subject::Apps(apps) = subject(&meaning, body) else {
                panic!("{} {}", row.method, row.path);
            };
            assert_eq!(apps.only(), None);
            assert_eq!(apps.knowledge(), Knowledge::Part, "{} {body:?}", row.path);
        }
    }
}

fn apps_of(method: &Method, path: &str, query: Option<&str>, body: Option<&str>) -> Apps {
    let meaning = Meaning::read(method, &HeaderMap::new(), path, query);
    match subject(&meaning, body) {
        Subject::Apps(apps) => apps,
        Subject::Cursor(_) => panic!("no cursor"),
    }
}

#[test]
fn a_bulk_request_counts_each_request_for_its_app() {
    let request = |app: u64| {
        format!(r#"{{"method":"POST","api":"/k/v1/record.json","payload":{{"app":{app}}}}}"#)
    };
    let path = "/k/v1/bulkRequest.json";
    let body = format!(
        r#"{{"requests":[{},{},{}]}}"#,
        request(7),
        request(8),
        request(7)
    );
    let apps = apps_of(&Method::POST, path, None, Some(&body));
    assert_eq!(apps.knowledge(), Knowledge::Whole);
    assert_eq!(apps.only(), None, "two apps are not one");
    assert_eq!(
        apps.iter().collect::<Vec<_>>(),
        [(AppId(7), 2), (AppId(8), 1)]
    );
    for strange in [
        r#"{"method":"POST","api":"/k/v1/unheard-of.json","payload":{"app":7}}"#,
        r#"{"method":"POST","api":"/k/v1/file.json","payload":{"app":7}}"#,
        r#"{"method":"GET","api":"/k/v1/record.json","payload":{"app":7}}"#,
        r#"{"method":"POST","api":"/k/v1/record.json","payload":{}}"#,
        r#"{"method":"POST","api":"/k/v1/record.json","payload":{"app":{"app":7}}}"#,
        r#"{"payload":{"app":7}}"#,
        "7",
    ] {
        let body = format!(r#"{{"requests":[{},{strange}]}}"#, request(7));
        let apps = apps_of(&Method::POST, path, None, Some(&body));
        assert_eq!(apps.knowledge(), Knowledge::Part, "{strange}");
        assert_eq!(
            apps.iter().collect::<Vec<_>>(),
            [(AppId(7), 1)],
            "{strange}"
        );
    }
}

#[test]
fn lists_are_bounded() {
    let list = |length: u64| {
        let apps: Vec<_> = (1..=length)
            .map(|app| format!(r#"{{"app":{app}}}"#))
            .collect();
        format!(r#"{{"apps":[{}]}}"#, apps.join(","))
    };
    let path = "/k/v1/preview/app/deploy.json";
    let all = apps_of(&Method::POST, path, None, Some(&list(300)));
    assert_eq!(
        (all.knowledge(), all.iter().count()),
        (Knowledge::Whole, 300)
    );
    let more = apps_of(&Method::POST, path, None, Some(&list(5000)));
    assert_eq!(
        (more.knowledge(), more.iter().count()),
        (Knowledge::Part, 300)
    );
    let same = |times| format!(r#"{{"apps":[{}]}}"#, vec![r#"{"app":7}"#; times].join(","));
    let all = apps_of(&Method::POST, path, None, Some(&same(300)));
    assert_eq!(all.iter().collect::<Vec<_>>(), [(AppId(7), 300)]);
    assert_eq!(all.only(), Some(AppId(7)));
    let more = apps_of(&Method::POST, path, None, Some(&same(301)));
    assert_eq!(more.only(), None, "nothing is read behind the 300th");
}

#[test]
fn contradictions_are_no_knowledge() {
    let path = "/k/v1/records.json";
    let read = |query, body| apps_of(&Method::GET, path, Some(query), body);
    assert_eq!(read("app=1", Some(r#"{"app":"1"}"#)).only(), Some(AppId(1)));
    assert_eq!(read("app=1", Some("{}")).only(), Some(AppId(1)));
    assert_eq!(read("app=1", Some("")).only(), Some(AppId(1)));
    assert_eq!(read("app=1", Some(r#"{"app":2}"#)).only(), None);
    assert_eq!(read("app=1&app=2", None).only(), None);
    assert_eq!(read("app=1&app=1", None).only(), Some(AppId(1)));
    for no in ["app=", "app", "app=+1", "app=1a", "app=0", "app[0]=1"] {
        assert_eq!(read(no, None).only(), None, "{no}");
    }
}

#[test]
fn only_a_post_is_overridden_once_and_in_upper_case() {
    let with = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-http-method-override", HeaderValue::from_static(value));
        }
        headers
    };
    let method = |method, values: &[&'static str]| {
        Meaning::read(&method, &with(values), "/k/v1/records.json", None).method
    };
    assert_eq!(method(Method::POST, &["GET"]), Method::GET);
    assert_eq!(method(Method::POST, &["POST"]), Method::POST);
    for strange in [
        &["get"][..],
        &["GET", "POST"],
        &["GET", "GET"],
        &["GET "],
        &[""],
    ] {
        assert_eq!(method(Method::POST, strange), Method::POST, "{strange:?}");
    }
    assert_eq!(method(Method::PUT, &["GET"]), Method::PUT);
    assert_eq!(method(Method::DELETE, &["GET"]), Method::DELETE);
}

#[test]
fn what_may_be_a_cursor_in_disguise_is_not_repeated() {
    let repeat = |path| Meaning::read(&Method::GET, &HeaderMap::new(), path, None).repeat;
    for safe in [
        "/k/v1/records.json",
        "/k/v1/new/thing.json",
        "/k/5/",
        "/",
        "/v1/users.json",
    ] {
        assert_eq!(repeat(safe), Repeat::Safe, "{safe}");
    }
    for path in [
        "/k/v1/records/cursor.json",
        "/k/guest/1/v1/records/cursor.json",
        "/k/v1/records/cursor%2Ejson",
        "/k/v1/records/%63ursor.json",
        "/k/v1/records/cursor.json;x=1",
        "/k/v1//records/cursor.json",
        "/k/v1/./records/cursor.json",
        "/k/v1/records/Cursor.json",
        "/k/v2/records/cursor.json",
    ] {
        assert_eq!(repeat(path), Repeat::Unsafe, "{path}");
    }
}

#[test]
fn what_is_no_api_of_kintones_is_said_to_be_unknown() {
    let meaning = Meaning::read(
        &Method::GET,
        &HeaderMap::new(),
        "/k/v1/new.json",
        Some("app=1"),
    );
    assert_eq!((meaning.path, meaning.counted), ("other", Counted::Unknown));
    assert_eq!(meaning.app(), None);
    assert!(
        meaning.body_reader().is_none(),
        "nothing is known to look for"
    );
    let users = Meaning::read(&Method::GET, &HeaderMap::new(), "/v1/users.json", None);
    assert_eq!((users.path, users.counted), ("/v1/users.json", Counted::No));
    let search = Meaning::read(&Method::POST, &HeaderMap::new(), "/k/v1/search.json", None);
    assert_eq!(
        subject(&search, None),
        Subject::Apps(apps_of(&Method::GET, "/x", None, None))
    );
}
