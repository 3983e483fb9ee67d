//! Is a document as its schema in `infra/schemas` says? The part of JSON Schema that those use.

use serde_json::{Value, json};

/// Every property of `value` is described by the schema `name`, and every required one is there.
pub(crate) fn check(value: &Value, name: &str) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/infra/schemas");
    let text = std::fs::read_to_string(format!("{folder}/{name}.schema.json")).expect("a schema");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    check_at(value, &schema, &schema, name);
}

fn check_at(value: &Value, schema: &Value, root: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        let schema = root.pointer(pointer).expect("what is referred to");
        return check_at(value, schema, root, place);
    }
    match value {
        Value::Object(map) => {
            let properties = schema["properties"].as_object().expect(place);
            for (name, value) in map {
                let schema = properties.get(name);
                let schema = schema.unwrap_or_else(|| panic!("{place}.{name} is not described"));
                check_at(value, schema, root, &format!("{place}.{name}"));
            }
            for name in schema["required"].as_array().expect(place) {
                let name = name.as_str().expect("a name");
                assert!(map.contains_key(name), "{place}.{name} is missing");
            }
        }
        Value::Array(items) => {
            for item in items {
                check_at(item, &schema["items"], root, place);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let kind = match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(number) if number.is_f64() => "number",
                Value::Number(_) => "integer",
                Value::String(_) | Value::Array(_) | Value::Object(_) => "string",
            };
            let is_allowed = match (&schema["enum"], &schema["type"]) {
                (Value::Array(words), _) => words.contains(value),
                (_, Value::Array(kinds)) => kinds
                    .iter()
                    .any(|one| *one == json!(kind) || (one == "number" && kind == "integer")),
                (_, one) => one == kind || (one == "number" && kind == "integer"),
            };
            assert!(is_allowed, "{place} is {value}, described as {schema}");
        }
    }
}
