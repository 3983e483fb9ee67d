//! Random JSON texts, written in random ways and cut in random places.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::Value;

/// Names that are looked for, and names that look like them.
const NAMES: &[&str] = &[
    "app", "apps", "api", "code", "error", "id", "method", "payload", "requests", "results",
    "record", "App", "ap", "app ", "", "値", "a\"b\\", "\u{1}", "😀",
];

const TEXTS: &[&str] = &[
    "1",
    "42",
    "007",
    "-1",
    "",
    "POST",
    "PUT",
    "GET",
    "/k/v1/record.json",
    "/k/v1/file.json",
    "/k/guest/3/v1/records.json",
    "GAIA_RE01",
    "gaia",
    "レコード",
    "\\\"}]",
    "18446744073709551616",
    "9a9716fe-1394-4677-a1c7-2199a5d28215",
];

/// A value with members in any order. No name stands twice.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Plain(Value),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

pub(crate) fn json() -> impl Strategy<Value = Json> {
    let text = prop_oneof![
        proptest::sample::select(TEXTS).prop_map(str::to_owned),
        ".{0,12}",
        "[0-9]{120,136}",
    ];
    let plain = Union::new([
        any::<i64>().prop_map(Value::from).boxed(),
        (0_u64..50).prop_map(Value::from).boxed(),
        any::<u64>().prop_map(Value::from).boxed(),
        // Eighths are written and read back without loss.
        any::<i32>()
            .prop_map(|n| Value::from(f64::from(n) / 8.0))
            .boxed(),
        any::<bool>().prop_map(Value::from).boxed(),
        Just(Value::Null).boxed(),
        text.prop_map(Value::from).boxed(),
    ]);
    plain
        .prop_map(Json::Plain)
        .prop_recursive(6, 60, 6, |inner| {
            let name = prop_oneof![
                8 => proptest::sample::select(NAMES).prop_map(str::to_owned),
                1 => ".{0,6}",
            ];
            prop_oneof![
                vec(inner.clone(), 0..5).prop_map(Json::List),
                vec((name, inner), 0..6).prop_map(|mut members| {
                    let mut seen = std::collections::HashSet::new();
                    members.retain(|(name, _)| seen.insert(name.clone()));
                    Json::Object(members)
                }),
            ]
        })
}

impl Json {
    /// As `serde_json` has it.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Plain(value) => value.clone(),
            Self::List(list) => list.iter().map(Self::value).collect(),
            Self::Object(members) => members
                .iter()
                .map(|(name, value)| (name.clone(), value.value()))
                .collect(),
        }
    }

    /// Written with spaces and escapes as `dice` falls.
    pub(crate) fn text(&self, dice: &[u8]) -> String {
        let mut writer = Writer {
            text: String::new(),
            dice: dice.iter().cycle(),
        };
        writer.json(self);
        writer.space();
        writer.text
    }
}

struct Writer<'a> {
    text: String,
    dice: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Writer<'_> {
    fn throw(&mut self) -> u8 {
        self.dice.next().copied().unwrap_or(0)
    }

    fn space(&mut self) {
        const SPACES: [&str; 5] = [" ", "\n", "\r\n\t", "   ", "\t"];
        if let Some(space) = SPACES.get(usize::from(self.throw())) {
            self.text.push_str(space);
        }
    }

    fn json(&mut self, json: &Json) {
        self.space();
        match json {
            Json::Plain(Value::String(text)) => self.string(text),
            Json::Plain(value) => self.text.push_str(&value.to_string()),
            Json::List(list) => {
                self.text.push('[');
                for (at, element) in list.iter().enumerate() {
                    self.comma(at);
                    self.json(element);
                    self.space();
                }
                self.space();
                self.text.push(']');
            }
            Json::Object(members) => {
                self.text.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    self.comma(at);
                    self.space();
                    self.string(name);
                    self.space();
                    self.text.push(':');
                    self.json(value);
                    self.space();
                }
                self.space();
                self.text.push('}');
            }
        }
    }

    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.text.push(',');
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            let must = c < ' ' || c == '"' || c == '\\';
            match (must, self.throw() % 16) {
                (true, 0..8) => {
                    let quoted = Value::from(c.to_string()).to_string();
                    self.text.push_str(&quoted[1..quoted.len() - 1]);
                }
                (true, _) | (false, 0) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        self.text.push_str(&format!("\\u{unit:04X}"));
                    }
                }
                (false, 1) if c == '/' => self.text.push_str("\\/"),
                (false, _) => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

/// `bytes` in pieces whose sizes are those of `cuts`, again and again.
pub(crate) fn pieces<'a>(bytes: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut cuts = cuts.iter().cycle();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = (*cuts.next().unwrap_or(&1)).clamp(1, rest.len());
        let (piece, tail) = rest.split_at(at);
        rest = tail;
        Some(piece)
    })
}
