//! kintone's errors: `{"code", "id", "message"}`, in two languages.

use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde_json::{Value, json};

use crate::answer::{Answer, JSON};
use crate::tenant::ErrorStyle;

/// In which language kintone speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Ja,
    En,
    /// The client did not say: Japanese from the application, English from the layer that admits.
    Unsaid,
}

/// An error in kintone's shape.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) en: String,
    pub(crate) ja: String,
    pub(crate) errors: Option<Value>,
}

impl ApiError {
    pub(crate) fn new(
        status: u16,
        code: &'static str,
        en: impl Into<String>,
        ja: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            en: en.into(),
            ja: ja.into(),
            errors: None,
        }
    }

    /// CB_VA01 about one parameter.
    pub(crate) fn invalid(path: &str, en: &str, ja: &str) -> Self {
        Self {
            errors: Some(json!({path: {"messages": [ja], "en": [en]}})),
            ..Self::new(
                400,
                "CB_VA01",
                "Missing or invalid input.",
                "入力内容が正しくありません。",
            )
        }
    }

    pub(crate) fn too_many_requests() -> Self {
        Self::new(
            429,
            "GAIA_TO04",
            "The number of concurrent API requests exceeds the limit.",
            "APIの同時リクエスト数が上限を超えています。",
        )
    }

    pub(crate) fn not_logged_in() -> Self {
        Self::new(401, "CB_AU01", "Please login.", "ログインしてください。")
    }

    /// The whole answer.
    pub(crate) fn answer(self, style: ErrorStyle, language: Language) -> Answer {
        let body = self.body(language);
        self.answer_with(&body, style)
    }

    /// The answer of a bulk request of `parts` parts, of which this befell the one at `place`: the results of the others are empty.
    pub(crate) fn answer_of_bulk(
        self,
        style: ErrorStyle,
        language: Language,
        place: usize,
        parts: usize,
    ) -> Answer {
        let mut results = vec![json!({}); parts];
        results[place] = self.body(language);
        self.answer_with(&json!({"results": results}), style)
    }

    fn body(&self, language: Language) -> Value {
        let language = match language {
            Language::Unsaid if self.code == "GAIA_TO04" => Language::En,
            Language::Unsaid | Language::Ja => Language::Ja,
            Language::En => Language::En,
        };
        let message = if language == Language::En {
            &self.en
        } else {
            &self.ja
        };
        let mut body =
            json!({"code": self.code, "id": crate::draw::identifier(20), "message": message});
        if let Some(errors) = &self.errors {
            body["errors"] = spoken(errors.clone(), language);
        }
        body
    }

    fn answer_with(self, body: &Value, style: ErrorStyle) -> Answer {
        let legacy = style == ErrorStyle::Legacy520 && has_legacy_status(self.code);
        let status = if legacy { 520 } else { self.status };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer =
            Answer::new(status, JSON, body.to_string()).with("x-cybozu-error", self.code);
        if self.code == "GAIA_TO04" {
            answer.headers.push((
                CACHE_CONTROL,
                HeaderValue::from_static("no-cache, no-store, must-revalidate"),
            ));
        }
        answer
    }
}

/// Leaves one language of the messages under each path.
fn spoken(mut errors: Value, language: Language) -> Value {
    for (_, of_path) in errors.as_object_mut().into_iter().flatten() {
        if let Some(of_path) = of_path.as_object_mut()
            && let Some(en) = of_path.remove("en")
            && language == Language::En
        {
            of_path.insert("messages".to_owned(), en);
        }
    }
    errors
}

fn has_legacy_status(code: &str) -> bool {
    matches!(
        code,
        "CB_AU01"
            | "CB_WA01"
            | "CB_IL02"
            | "GAIA_IA02"
            | "GAIA_NO01"
            | "GAIA_LO04"
            | "GAIA_IL23"
            | "GAIA_DA02"
    )
}
