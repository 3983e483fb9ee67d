//! Bodies of any shape, cut anywhere, against `serde_json`.

use http::{HeaderMap, Method};
use kintone_egress::kintone::call::{Apps, Knowledge, Meaning, READ_MAX, Subject};
use kintone_egress::model::AppId;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use crate::random::{json, pieces};

const RECORD: &str = "/k/v1/record.json";
const APP: &str = "/k/v1/app.json";
const DEPLOY: &str = "/k/v1/preview/app/deploy.json";
const BULK: &str = "/k/v1/bulkRequest.json";
const CURSOR: &str = "/k/v1/records/cursor.json";

/// What a body tells about the apps: those it names, and whether they are all.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    apps: Vec<(AppId, u32)>,
    knowledge: Knowledge,
}

impl Told {
    fn of(entries: impl IntoIterator<Item = Option<AppId>>) -> Self {
        let mut told = Self {
            apps: Vec::new(),
            knowledge: Knowledge::Part,
        };
        let mut entries = entries.into_iter().peekable();
        if entries.peek().is_some() {
            told.knowledge = Knowledge::Whole;
        }
        for entry in entries {
            let Some(app) = entry else {
                told.knowledge = Knowledge::Part;
                continue;
            };
            match told.apps.iter_mut().find(|(known, _)| *known == app) {
                Some((_, times)) => *times += 1,
                None => told.apps.push((app, 1)),
            }
        }
        told
    }

    fn by(apps: &Apps) -> Self {
        Self {
            apps: apps.iter().collect(),
            knowledge: apps.knowledge(),
        }
    }
}

/// An app's number by the book.
fn number(value: &Value) -> Option<AppId> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let digits = text.len() <= 128 && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && *number > 0)?;
    Some(AppId(number))
}

/// What a whole body tells, by `serde_json`.
fn expected(path: &str, body: &Value) -> Told {
    let list = |name: &str| body.get(name).and_then(Value::as_array).cloned();
    match path {
        RECORD => Told::of(body.get("app").map(number)),
        APP => Told::of(body.get("id").map(number)),
        DEPLOY => Told::of(
            list("apps")
                .unwrap_or_default()
                .iter()
                .map(|entry| match entry {
                    Value::Object(entry) => entry.get("app").and_then(number),
                    plain => number(plain),
                }),
        ),
        BULK => Told::of(list("requests").unwrap_or_default().iter().map(|entry| {
            let api = entry.get("api")?.as_str()?;
            let known = ["/k/v1/record.json", "/k/guest/3/v1/records.json"].contains(&api);
            let method = matches!(entry.get("method")?.as_str()?, "POST" | "PUT");
            number(entry.get("payload")?.get("app")?).filter(|_| known && method)
        })),
        _ => unreachable!(),
    }
}

fn method_of(path: &str) -> Method {
    if matches!(path, APP | CURSOR) {
        Method::GET
    } else {
        Method::POST
    }
}

fn read<'a>(path: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Subject {
    let meaning = Meaning::read(&method_of(path), &HeaderMap::new(), path, None);
    let mut reader = meaning.body_reader().unwrap();
    pieces.into_iter().for_each(|piece| reader.feed(piece));
    meaning.subject(Some(&reader))
}

fn told(subject: Subject) -> Told {
    match subject {
        Subject::Apps(apps) => Told::by(&apps),
        Subject::Cursor(_) => panic!("no cursor"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_body_is_read_as_serde_reads_it(
        body in json(),
        dice in vec(any::<u8>(), 1..64),
        cuts in vec(1_usize..40, 1..16),
        path in proptest::sample::select(vec![RECORD, APP, DEPLOY, BULK]),
    ) {
        let text = body.text(&dice);
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&value, &body.value(), "the writer writes JSON");
        let found = told(read(path, pieces(text.as_bytes(), &cuts)));
        prop_assert_eq!(found, expected(path, &value), "{}", text);
    }

    #[test]
    fn where_a_body_is_cut_makes_no_difference(
        mut text in prop_oneof![
            vec(any::<u8>(), 0..200),
            (json(), vec(any::<u8>(), 1..64)).prop_map(|(body, dice)| body.text(&dice).into_bytes()),
        ],
        faults in vec((any::<u16>(), any::<u8>()), 0..4),
        cuts in vec(1_usize..9, 1..16),
        path in proptest::sample::select(vec![RECORD, APP, DEPLOY, BULK, CURSOR]),
    ) {
        for (at, byte) in faults {
            if let Some(place) = text.len().checked_sub(1) {
                text[usize::from(at) % (place + 1)] = byte;
            }
        }
        let whole = read(path, [text.as_slice()]);
        prop_assert_eq!(read(path, pieces(&text, &cuts)), whole);
    }

    #[test]
    fn half_a_body_tells_nothing_wrong(
        body in json(),
        dice in vec(any::<u8>(), 1..64),
        part in 0.0..1.0,
        path in proptest::sample::select(vec![RECORD, APP, DEPLOY, BULK]),
    ) {
        let text = body.text(&dice);
        let value: Value = serde_json::from_str(&text).unwrap();
        let cut = (text.len() as f64 * part) as usize;
        let half = told(read(path, [&text.as_bytes()[..cut]]));
        let whole = expected(path, &value);
        for (app, times) in &half.apps {
            let all = whole.apps.iter().find(|(known, _)| known == app);
            prop_assert!(all.is_some_and(|(_, all)| times <= all), "{app} {text}");
        }
        if half.knowledge == Knowledge::Whole {
            prop_assert_eq!(half, whole);
        }
    }
}

#[test]
fn a_body_is_read_up_to_its_bound_only() {
    let filler = vec![b' '; 1 << 20];
    let body = |spaces: u64| {
        let spaces = (0..spaces).map(|_| filler.as_slice());
        std::iter::once(&b"{"[..])
            .chain(spaces)
            .chain(std::iter::once(&br#""app":7}"#[..]))
    };
    let within = READ_MAX / (1 << 20) - 1;
    assert_eq!(told(read(RECORD, body(within))), Told::of([Some(AppId(7))]));
    assert_eq!(told(read(RECORD, body(within + 1))), Told::of([]));
}

#[test]
fn nesting_is_followed_to_its_bound_only() {
    let body = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"record":{open}{close},"app":7}}"#)
    };
    let read = |depth| told(read(RECORD, [body(depth).as_bytes()]));
    assert_eq!(read(127), Told::of([Some(AppId(7))]));
    assert_eq!(read(128), Told::of([]));
    assert_eq!(read(100_000), Told::of([]));
}

#[test]
fn cursors_are_read_from_bodies() {
    let body = br#"{"id":"9a9716fe-1394-4677-a1c7-2199a5d28215"}"#;
    let query = Meaning::read(
        &Method::GET,
        &HeaderMap::new(),
        CURSOR,
        Some("id=9a9716fe-1394-4677-a1c7-2199a5d28215"),
    );
    let in_query = query.subject(None);
    assert!(matches!(in_query, Subject::Cursor(_)));
    assert_eq!(read(CURSOR, body.chunks(3)), in_query);
    assert!(matches!(
        read(CURSOR, [&br#"{"id":7}"#[..]]),
        Subject::Apps(_)
    ));
}
