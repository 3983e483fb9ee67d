//! What an app is: its fields, its tokens and the records it begins with.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// An app of an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSettings {
    /// The app's number.
    pub id: u64,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The guest space it lives in; `None`: not in a guest space.
    #[serde(default)]
    pub guest_space: Option<u64>,
    /// Its API tokens.
    #[serde(default)]
    pub tokens: Vec<Token>,
    /// Its fields, apart from the record number, `$id` and `$revision`, which every app has.
    #[serde(default)]
    pub fields: Vec<Field>,
    /// The records it begins with: field code to value.
    #[serde(default)]
    pub records: Vec<Map<String, Value>>,
}

/// An API token of an app.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The token itself.
    pub value: String,
    /// What it may do.
    pub rights: Vec<Right>,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Read records.
    View,
    /// Add records.
    Add,
    /// Change records.
    Edit,
    /// Delete records.
    Delete,
    /// Manage the app.
    Manage,
}

/// A field of an app.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Its field code.
    pub code: String,
    /// kintone's name of its type, for example `SINGLE_LINE_TEXT`.
    #[serde(rename = "type")]
    pub kind: String,
    /// No two records may have the same value.
    #[serde(default)]
    pub unique: bool,
    /// Of a `LINK`: `WEB`, `CALL` or `MAIL`.
    #[serde(default)]
    pub protocol: Option<String>,
}

impl Field {
    /// A field of this code and type.
    pub fn new(code: &str, kind: &str) -> Self {
        Self {
            code: code.to_owned(),
            kind: kind.to_owned(),
            unique: false,
            protocol: None,
        }
    }
}

impl AppSettings {
    /// App 1: title (unique text), tel (a phone link), num, files; three records; the token `demo-token`, which may do all.
    pub fn demo() -> Self {
        let record = |title: &str, tel: &str, num: &str| {
            let mut record = Map::new();
            record.insert("title".to_owned(), json!(title));
            record.insert("tel".to_owned(), json!(tel));
            record.insert("num".to_owned(), json!(num));
            record
        };
        Self {
            id: 1,
            name: "Customers".to_owned(),
            guest_space: None,
            tokens: vec![Token {
                value: "demo-token".to_owned(),
                rights: vec![
                    Right::View,
                    Right::Add,
                    Right::Edit,
                    Right::Delete,
                    Right::Manage,
                ],
            }],
            fields: vec![
                Field {
                    unique: true,
                    ..Field::new("title", "SINGLE_LINE_TEXT")
                },
                Field {
                    protocol: Some("CALL".to_owned()),
                    ..Field::new("tel", "LINK")
                },
                Field::new("num", "NUMBER"),
                Field::new("files", "FILE"),
            ],
            records: vec![
                record("Acme", "03-1234-5678", "1"),
                record("サイボウズ", "0312345678", "2"),
                record("Example", "06-9876-5432", "3"),
            ],
        }
    }
}
