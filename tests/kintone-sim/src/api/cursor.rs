//! `records/cursor.json`: all records of a query, page by page.

use serde_json::{Value, json};

use super::Call;
use super::params::{number, required};
use super::query::Query;
use super::{records, search};
use crate::answer::Answer;
use crate::app::Right;
use crate::cursors::Next;
use crate::error::ApiError;

const SIZE_DEFAULT: u64 = 100;
const SIZE_MAX: u64 = 500;

/// `POST records/cursor.json`
pub(super) fn create(call: &Call<'_>) -> Result<Answer, ApiError> {
    let settings = call.app("app", Right::View)?;
    let size = call.params.get("size").map_or(Some(SIZE_DEFAULT), number);
    let size = size
        .filter(|size| (1..=SIZE_MAX).contains(size))
        .ok_or_else(wrong_size)?;
    let mut query = Query::parse(&call.params.text("query").unwrap_or_default())?;
    query.check(settings)?;
    query.limit = u64::MAX;
    query.offset = 0;
    let wanted = records::wanted_fields(call);
    let mut store = call.store();
    let (found, total) = search::run(store.app(settings.id)?, &query);
    let shown: Vec<Value> = found
        .into_iter()
        .map(|(id, record)| records::shown(settings, id, record, wanted.as_deref()))
        .collect();
    let id = store.cursors.create(settings.id, size as usize, shown)?;
    Ok(Answer::done(
        &json!({"id": id, "totalCount": total.to_string()}),
    ))
}

/// `GET records/cursor.json`
pub(super) fn next(call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = named(call)?;
    let page = call.store().cursors.read(&id)?;
    let next = page.next == Next::More;
    Ok(Answer::done(
        &json!({"records": page.records, "next": next}),
    ))
}

/// `DELETE records/cursor.json`
pub(super) fn delete(call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = named(call)?;
    call.store().cursors.delete(&id)?;
    Ok(Answer::done(&json!({})))
}

/// The cursor that a call names, if it may read the cursor's app. Does not count for the app's daily quota: no app is named.
fn named(call: &Call<'_>) -> Result<String, ApiError> {
    let id = call.params.text("id").ok_or_else(|| required("id"))?;
    let app = call.store().cursors.app(&id)?;
    let settings = call.settings.apps.iter().find(|known| known.id == app);
    if let Some(settings) = settings {
        call.identity.may(settings, Right::View)?;
    }
    Ok(id)
}

fn wrong_size() -> ApiError {
    ApiError::invalid(
        "size",
        "must be between 1 and 500.",
        "1から500までの値を指定してください。",
    )
}
