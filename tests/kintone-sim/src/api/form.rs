//! What an app is: `app.json`, `app/form/fields.json` and `app/form/layout.json`.

use serde_json::{Map, Value, json};

use super::Call;
use crate::answer::Answer;
use crate::app::{Field, Right};
use crate::error::ApiError;

/// `GET app.json`
pub(super) fn app(call: &Call<'_>) -> Result<Answer, ApiError> {
    let app = call.app("id", Right::View)?;
    let person = json!({"code": "Administrator", "name": "Administrator"});
    Ok(Answer::done(&json!({
        "appId": app.id.to_string(), "code": "", "name": app.name, "description": "",
        "spaceId": app.guest_space.map(|space| space.to_string()), "threadId": null,
        "createdAt": "2026-01-01T00:00:00.000Z", "creator": person,
        "modifiedAt": "2026-01-01T00:00:00.000Z", "modifier": person,
    })))
}

/// `GET app/form/fields.json`
pub(super) fn fields(call: &Call<'_>) -> Result<Answer, ApiError> {
    let app = call.app("app", Right::View)?;
    let mut properties = Map::new();
    let number = Field::new(super::records::RECORD_NUMBER, "RECORD_NUMBER");
    for field in std::iter::once(&number).chain(&app.fields) {
        properties.insert(field.code.clone(), property(field));
    }
    Ok(Answer::done(
        &json!({"revision": "1", "properties": properties}),
    ))
}

/// `GET app/form/layout.json`: a row for each field, as in a form that nobody has arranged.
pub(super) fn layout(call: &Call<'_>) -> Result<Answer, ApiError> {
    let app = call.app("app", Right::View)?;
    let rows: Vec<Value> = app
        .fields
        .iter()
        .map(|field| {
            let shown = json!({"type": field.kind, "code": field.code, "size": {"width": "193"}});
            json!({"type": "ROW", "fields": [shown]})
        })
        .collect();
    Ok(Answer::done(&json!({"revision": "1", "layout": rows})))
}

fn property(field: &Field) -> Value {
    let mut property = json!({
        "type": field.kind, "code": field.code, "label": field.code, "noLabel": false, "required": false,
    });
    match field.kind.as_str() {
        "SINGLE_LINE_TEXT" | "NUMBER" | "LINK" | "DATE" | "DATETIME" => {
            property["unique"] = json!(field.unique);
            property["defaultValue"] = json!("");
        }
        "FILE" => property["thumbnailSize"] = json!("150"),
        _ => {}
    }
    if let Some(protocol) = &field.protocol {
        property["protocol"] = json!(protocol);
    }
    property
}
