//! The corpus of kintone's failed answers (`tests/corpus/answers.toml`).

use http::StatusCode;
use serde::Deserialize;

/// One answer in one language and with one status.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub language: &'static str,
    pub status: StatusCode,
    pub content_type: String,
    pub body: String,
    /// Why it failed.
    pub cause: String,
    /// kintone's code and identifier in it.
    pub code: Option<String>,
    pub id: Option<String>,
}

#[derive(Deserialize)]
struct Corpus {
    answer: Vec<Entry>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    source: String,
    statuses: Vec<u16>,
    cause: String,
    code: Option<String>,
    id: Option<String>,
    #[serde(default = "json")]
    content_type: String,
    ja: Option<String>,
    en: Option<String>,
}

fn json() -> String {
    "application/json;charset=utf-8".to_owned()
}

/// All of them.
pub fn samples() -> Vec<Sample> {
    let corpus: Corpus =
        toml::from_str(include_str!("../corpus/answers.toml")).expect("a good corpus");
    let mut samples = Vec::new();
    for entry in corpus.answer {
        assert!(!entry.source.is_empty(), "{}", entry.name);
        for status in &entry.statuses {
            for (language, body) in [("ja", &entry.ja), ("en", &entry.en)] {
                let Some(body) = body else { continue };
                samples.push(Sample {
                    name: entry.name.clone(),
                    language,
                    status: StatusCode::from_u16(*status).expect("a status"),
                    content_type: entry.content_type.clone(),
                    body: body.clone(),
                    cause: entry.cause.clone(),
                    code: entry.code.clone(),
                    id: entry.id.clone(),
                });
            }
        }
    }
    samples
}
