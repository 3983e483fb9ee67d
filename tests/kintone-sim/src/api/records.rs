//! `records.json` and `record.json`.

use serde_json::{Map, Value, json};

use super::Call;
use super::params::{number, required};
use super::query::Query;
use super::search;
use crate::answer::Answer;
use crate::app::{AppSettings, Right};
use crate::error::ApiError;
use crate::store::{Change, Record, Upsert};

/// Most records that one call may add, change or delete.
const BATCH_MAX: usize = 100;
/// Code of the field that every app has.
pub(super) const RECORD_NUMBER: &str = "レコード番号";

/// `GET records.json`
pub(super) fn search(call: &Call<'_>) -> Result<Answer, ApiError> {
    let settings = call.app("app", Right::View)?;
    let query = Query::parse(&call.params.text("query").unwrap_or_default())?;
    query.check(settings)?;
    let mut store = call.store();
    let app = store.app(settings.id)?;
    let (found, total) = search::run(app, &query);
    let wanted = wanted_fields(call);
    let records: Vec<Value> = found
        .into_iter()
        .map(|(id, record)| shown(settings, id, record, wanted.as_deref()))
        .collect();
    let total =
        (call.params.text("totalCount").as_deref() == Some("true")).then(|| total.to_string());
    Ok(Answer::done(
        &json!({"records": records, "totalCount": total}),
    ))
}

/// The fields that a call wants to see; `None`: all.
pub(super) fn wanted_fields(call: &Call<'_>) -> Option<Vec<String>> {
    let fields = call.params.get("fields")?.as_array()?;
    Some(fields.iter().map(crate::store::text).collect())
}

/// `GET record.json`
pub(super) fn get(call: &Call<'_>) -> Result<Answer, ApiError> {
    let settings = call.app("app", Right::View)?;
    let id = call.params.number("id")?;
    let mut store = call.store();
    let record = store.app(settings.id)?.record(id)?;
    Ok(Answer::done(
        &json!({"record": shown(settings, id, record, None)}),
    ))
}

/// `POST records.json`
pub(super) fn add(call: &Call<'_>) -> Result<Answer, ApiError> {
    let settings = call.app("app", Right::Add)?;
    let batch = call.params.list("records", BATCH_MAX)?;
    let ids = insert(call, settings, batch)?;
    let revisions: Vec<&str> = ids.iter().map(|_| "1").collect();
    Ok(Answer::done(&json!({"ids": ids, "revisions": revisions})))
}

/// `POST record.json`
pub(super) fn add_one(call: &Call<'_>) -> Result<Answer, ApiError> {
    let settings = call.app("app", Right::Add)?;
    let empty = Value::Object(Map::new());
    let record = call.params.get("record").unwrap_or(&empty).clone();
    let ids = insert(call, settings, &[record]).map_err(of_one_record)?;
    Ok(Answer::done(&json!({"id": ids.first(), "revision": "1"})))
}

/// `PUT records.json`
pub(super) fn change(call: &Call<'_>) -> Result<Answer, ApiError> {
    let settings = call.app("app", Right::Edit)?;
    let batch = call.params.list("records", BATCH_MAX)?;
    if call.params.get("upsert") == Some(&json!(true)) {
        let done = add_or_change(call, settings, batch)?;
        return Ok(Answer::done(&json!({"records": done})));
    }
    let changed: Vec<Value> = update(call, settings, batch)?
        .into_iter()
        .map(|(id, revision)| json!({"id": id.to_string(), "revision": revision.to_string()}))
        .collect();
    Ok(Answer::done(&json!({"records": changed})))
}

/// `PUT record.json`
pub(super) fn change_one(call: &Call<'_>) -> Result<Answer, ApiError> {
    let settings = call.app("app", Right::Edit)?;
    let mut entry = Map::new();
    for name in ["id", "updateKey", "revision", "record"] {
        if let Some(value) = call.params.get(name) {
            entry.insert(name.to_owned(), value.clone());
        }
    }
    let changed = update(call, settings, &[Value::Object(entry)]).map_err(of_one_record)?;
    let revision = changed.first().map(|(_, revision)| revision.to_string());
    Ok(Answer::done(&json!({"revision": revision})))
}

/// `DELETE records.json`
pub(super) fn delete(call: &Call<'_>) -> Result<Answer, ApiError> {
    let settings = call.app("app", Right::Delete)?;
    let ids = call.params.list("ids", BATCH_MAX)?;
    let revisions = call.params.get("revisions").and_then(Value::as_array);
    let mut batch = Vec::new();
    for (place, id) in ids.iter().enumerate() {
        let id = number(id).ok_or_else(|| required(&format!("ids[{place}]")))?;
        let revision = revisions
            .and_then(|revisions| revisions.get(place))
            .and_then(expected_revision);
        batch.push((id, revision));
    }
    call.store().app(settings.id)?.delete(&batch)?;
    Ok(Answer::done(&json!({})))
}

fn insert(
    call: &Call<'_>,
    settings: &AppSettings,
    batch: &[Value],
) -> Result<Vec<String>, ApiError> {
    let batch = batch
        .iter()
        .enumerate()
        .map(|(place, record)| values(call, settings, record, &format!("records[{place}]")))
        .collect::<Result<Vec<_>, _>>()?;
    let ids = call.store().app(settings.id)?.add(batch)?;
    Ok(ids.iter().map(u64::to_string).collect())
}

fn update(
    call: &Call<'_>,
    settings: &AppSettings,
    batch: &[Value],
) -> Result<Vec<(u64, u64)>, ApiError> {
    let mut changes = Vec::new();
    for (place, entry) in batch.iter().enumerate() {
        let path = format!("records[{place}]");
        changes.push(Change {
            id: named_record(call, settings, entry, &path)?,
            revision: entry.get("revision").and_then(expected_revision),
            values: values(call, settings, &entry["record"], &path)?,
        });
    }
    call.store().app(settings.id)?.change(changes)
}

/// Changes the records that are there and adds the others, all or none.
fn add_or_change(
    call: &Call<'_>,
    settings: &AppSettings,
    batch: &[Value],
) -> Result<Vec<Value>, ApiError> {
    let mut entries = Vec::new();
    for (place, entry) in batch.iter().enumerate() {
        let path = format!("records[{place}]");
        let key = entry
            .get("updateKey")
            .ok_or_else(|| required(&format!("{path}.updateKey")))?;
        entries.push(Upsert {
            field: key["field"].as_str().unwrap_or_default().to_owned(),
            value: key["value"].clone(),
            values: values(call, settings, &entry["record"], &path)?,
        });
    }
    let done = call.store().app(settings.id)?.upsert(entries)?;
    let shown = done.into_iter().map(|(id, revision)| {
        let operation = if revision == 1 { "INSERT" } else { "UPDATE" };
        json!({"id": id.to_string(), "revision": revision.to_string(), "operation": operation})
    });
    Ok(shown.collect())
}

/// The record that an entry names by `id` or `updateKey`.
fn named_record(
    call: &Call<'_>,
    settings: &AppSettings,
    entry: &Value,
    path: &str,
) -> Result<u64, ApiError> {
    if let Some(id) = entry.get("id") {
        return number(id).ok_or_else(|| required(&format!("{path}.id")));
    }
    let key = entry
        .get("updateKey")
        .ok_or_else(|| required(&format!("{path}.id")))?;
    let field = key["field"].as_str().unwrap_or_default();
    call.store()
        .app(settings.id)?
        .find(field, &key["value"])
        .ok_or_else(|| {
            ApiError::new(
                404,
                "GAIA_RE20",
                "No records match the conditions specified in the \"updateKey\" field.",
                "「updateKey」で指定した条件に一致するレコードがありません。",
            )
        })
}

/// -1, null and absence all mean any revision.
fn expected_revision(value: &Value) -> Option<u64> {
    number(value)
}

/// The values in `{code: {"value": …}}`. Unknown codes are ignored, as kintone does.
fn values(
    call: &Call<'_>,
    settings: &AppSettings,
    record: &Value,
    path: &str,
) -> Result<Map<String, Value>, ApiError> {
    let mut values = Map::new();
    for field in &settings.fields {
        let Some(value) = record.get(&field.code).map(|field| &field["value"]) else {
            continue;
        };
        let value = match field.kind.as_str() {
            "FILE" => call.store().attach(value)?,
            "NUMBER" if !is_number(value) => {
                return Err(ApiError::invalid(
                    &format!("{path}.{}.value", field.code),
                    "Only numbers are allowed.",
                    "数字でなければなりません。",
                ));
            }
            _ if value.is_null() => json!(""),
            _ if value.is_array() => value.clone(),
            _ => json!(crate::store::text(value)),
        };
        values.insert(field.code.clone(), value);
    }
    Ok(values)
}

fn is_number(value: &Value) -> bool {
    match value {
        Value::Null | Value::Number(_) => true,
        Value::String(text) => text.is_empty() || text.parse::<f64>().is_ok(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// The endpoints of a single record name it `record`, not `records[0]`.
fn of_one_record(mut error: ApiError) -> ApiError {
    if let Some(Value::Object(errors)) = &mut error.errors {
        *errors = std::mem::take(errors)
            .into_iter()
            .map(|(path, messages)| (path.replacen("records[0]", "record", 1), messages))
            .collect();
    }
    error
}

/// A record as kintone shows it: every field of the app, and its number and revision.
pub(crate) fn shown(
    settings: &AppSettings,
    id: u64,
    record: &Record,
    wanted: Option<&[String]>,
) -> Value {
    let mut shown = Map::new();
    let mut show = |code: &str, kind: &str, value: Value| {
        if wanted.is_none_or(|wanted| wanted.is_empty() || wanted.iter().any(|want| want == code)) {
            shown.insert(code.to_owned(), json!({"type": kind, "value": value}));
        }
    };
    show("$id", "__ID__", json!(id.to_string()));
    show(
        "$revision",
        "__REVISION__",
        json!(record.revision.to_string()),
    );
    show(RECORD_NUMBER, "RECORD_NUMBER", json!(id.to_string()));
    for field in &settings.fields {
        let value = record.values.get(&field.code).cloned();
        let empty = if field.kind == "FILE" {
            json!([])
        } else {
            json!("")
        };
        show(&field.code, &field.kind, value.unwrap_or(empty));
    }
    Value::Object(shown)
}
