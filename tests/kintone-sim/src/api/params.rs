//! Parameters: from the query or from a JSON body, whatever the method.

use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::body::{Size, Taken};
use crate::error::ApiError;
use crate::head::Head;

/// The parameters of a call; those of the body win over those of the query.
#[derive(Debug, Default)]
pub(super) struct Params(Map<String, Value>);

impl Params {
    /// # Errors
    /// CB_IJ01 when a body is not a JSON object, or is empty although its type is JSON.
    pub(super) fn of(head: &Head, body: &Taken) -> Result<Self, ApiError> {
        let mut params = from_query(&head.query);
        let is_json = head.text("content-type").starts_with("application/json");
        if body.size == Size::TooLarge {
            return Err(ApiError::new(
                413,
                "CB_IL02",
                "Illegal request.",
                "不正なリクエストです。",
            ));
        }
        if !body.content.is_empty() {
            match serde_json::from_slice(&body.content) {
                Ok(Value::Object(object)) => params.extend(object),
                Ok(_) | Err(_) => return Err(illegal_json()),
            }
        } else if is_json || matches!(head.method, Method::POST | Method::PUT) {
            return Err(illegal_json());
        }
        Ok(Self(params))
    }

    /// The parameters of a part of a bulk request.
    pub(super) fn of_payload(payload: &Value) -> Self {
        Self(payload.as_object().cloned().unwrap_or_default())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A number, given as such or as a string.
    pub(super) fn number(&self, name: &str) -> Result<u64, ApiError> {
        let value = self.get(name).ok_or_else(|| required(name))?;
        number(value).ok_or_else(|| {
            ApiError::invalid(name, "must be an integer.", "整数で指定してください。")
        })
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(crate::store::text)
    }

    /// A list of at least one and at most `most` entries.
    pub(super) fn list(&self, name: &str, most: usize) -> Result<&[Value], ApiError> {
        let list = self
            .get(name)
            .and_then(Value::as_array)
            .ok_or_else(|| required(name))?;
        if list.is_empty() || list.len() > most {
            return Err(ApiError::invalid(
                name,
                &format!("Between 1 and {most} entries may be specified."),
                &format!("一度に1件から{most}件まで指定できます。"),
            ));
        }
        Ok(list)
    }
}

/// A number, given as such or as a string.
pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

pub(super) fn required(name: &str) -> ApiError {
    ApiError::invalid(name, "Required field.", "必須です。")
}

fn illegal_json() -> ApiError {
    ApiError::new(
        400,
        "CB_IJ01",
        "Invalid JSON string.",
        "不正なJSON文字列です。",
    )
}

/// `name=value`, and `name[0]=value` as entries of a list.
fn from_query(query: &str) -> Map<String, Value> {
    let mut params = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name), Value::String(decoded(value)));
        match name.split_once('[') {
            Some((name, _)) => {
                let list = params
                    .entry(name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    list.push(value);
                }
            }
            None => {
                params.insert(name, value);
            }
        }
    }
    params
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}
