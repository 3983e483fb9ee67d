//! `bulkRequest.json`: up to twenty calls that write, of any apps, all or none.

use serde_json::{Value, json};

use super::Call;
use super::params::Params;
use crate::answer::{Answer, Payload};
use crate::error::ApiError;

const REQUESTS_MAX: usize = 20;

/// `POST bulkRequest.json`. Each part counts for the daily quota of its app, also of a bulk request that fails.
pub(super) fn run(call: &mut Call<'_>) -> Result<Answer, ApiError> {
    let parts = call.params.list("requests", REQUESTS_MAX)?.to_vec();
    let before = call.store().saved();
    let mut results = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        match one(call, part, place) {
            Ok(result) => results.push(result),
            Err(error) => {
                call.store().restore(before);
                let style = call.settings.errors;
                return Ok(error.answer_of_bulk(style, call.language, place, parts.len()));
            }
        }
    }
    Ok(Answer::done(&json!({"results": results})))
}

/// What one part would have been answered by itself.
fn one(call: &mut Call<'_>, part: &Value, place: usize) -> Result<Value, ApiError> {
    let method = part["method"].as_str().unwrap_or_default();
    let api = part["api"].as_str().unwrap_or_default();
    let (space, endpoint) = super::endpoint(api)
        .filter(|(_, endpoint)| is_allowed(endpoint, method))
        .ok_or_else(|| not_allowed(place))?;
    call.params = Params::of_payload(&part["payload"]);
    let outer = std::mem::replace(&mut call.space, space);
    let answer = super::done(call, endpoint, method, None);
    call.space = outer;
    let Payload::Bytes(body) = answer?.payload else {
        return Err(not_allowed(place));
    };
    serde_json::from_slice(&body).map_err(|_| not_allowed(place))
}

fn is_allowed(endpoint: &str, method: &str) -> bool {
    matches!(
        (endpoint, method),
        ("record.json", "POST" | "PUT") | ("records.json", "POST" | "PUT" | "DELETE")
    )
}

fn not_allowed(place: usize) -> ApiError {
    ApiError::invalid(
        &format!("requests[{place}].api"),
        "This API cannot be used in a bulk request.",
        "このAPIは一括処理では使用できません。",
    )
}
