//! What reads or writes many records: cursors, bulk requests, upsert.

use kintone_sim::{AppSettings, Sim, TenantSettings};
use serde_json::{Value, json};

use crate::client::{self, Client, HOST};

/// A call with a JSON body, or with a query when there is none; its status and its JSON.
async fn call(sim: &Sim, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let answer = client::send(sim, method, &format!("/k/v1/{target}"), &body).await;
    (answer.status.as_u16(), answer.json())
}

fn titles(records: &Value) -> Vec<&str> {
    let records = records.as_array().unwrap().iter();
    records
        .map(|record| record["title"]["value"].as_str().unwrap())
        .collect()
}

fn all_titles(sim: &Sim, app: u64) -> Vec<String> {
    let records = Value::from(sim.records(HOST, app));
    titles(&records).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_cursor_gives_every_record_once_and_is_gone_with_the_last_page() {
    let sim = client::start(TenantSettings::default()).await;
    let create = json!({"app": 1, "size": 2, "query": "order by $id asc", "fields": ["title"]});
    let (status, made) = call(&sim, "POST", "records/cursor.json", &create).await;
    assert_eq!((status, &made["totalCount"]), (200, &json!("3")));
    let read = format!("records/cursor.json?id={}", made["id"].as_str().unwrap());
    // What is added meanwhile is not in it.
    let add = json!({"app": 1, "record": {"title": {"value": "later"}}});
    assert_eq!(call(&sim, "POST", "record.json", &add).await.0, 200);
    let (_, page) = call(&sim, "GET", &read, &Value::Null).await;
    assert_eq!(page["next"], true);
    assert_eq!(titles(&page["records"]), ["Acme", "サイボウズ"]);
    assert_eq!(page["records"][0].as_object().unwrap().len(), 1);
    let (_, page) = call(&sim, "GET", &read, &Value::Null).await;
    assert_eq!(page["next"], false);
    assert_eq!(titles(&page["records"]), ["Example"]);
    for method in ["GET", "DELETE"] {
        let (status, error) = call(&sim, method, &read, &Value::Null).await;
        assert_eq!((status, &error["code"]), (404, &json!("GAIA_CN01")));
    }
    let wrong = json!({"app": 1, "size": 501});
    let (status, error) = call(&sim, "POST", "records/cursor.json", &wrong).await;
    assert_eq!((status, &error["code"]), (400, &json!("CB_VA01")));
}

#[tokio::test]
async fn an_account_has_ten_cursors_at_most() {
    let sim = client::start(TenantSettings::default()).await;
    let create = json!({"app": 1});
    let mut made = Vec::new();
    for _ in 0..10 {
        let (status, cursor) = call(&sim, "POST", "records/cursor.json", &create).await;
        assert_eq!(status, 200);
        made.push(cursor["id"].clone());
    }
    let (status, error) = call(&sim, "POST", "records/cursor.json", &create).await;
    assert_eq!((status, &error["code"]), (429, &json!("GAIA_TM12")));
    let delete = json!({"id": made[0]});
    let (status, done) = call(&sim, "DELETE", "records/cursor.json", &delete).await;
    assert_eq!((status, done), (200, json!({})));
    let (status, _) = call(&sim, "POST", "records/cursor.json", &create).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_bulk_request_writes_all_or_nothing() {
    let mut settings = TenantSettings::default();
    settings.apps.push(AppSettings {
        id: 2,
        guest_space: Some(9),
        ..AppSettings::demo()
    });
    let sim = client::start(settings).await;
    let part = |method: &str, api: &str, payload: Value| json!({"method": method, "api": api, "payload": payload});
    let add = |title: &str| {
        part(
            "POST",
            "/k/v1/records.json",
            json!({"app": 1, "records": [{"title": {"value": title}}]}),
        )
    };
    let change = part(
        "PUT",
        "/k/v1/record.json",
        json!({"app": "1", "id": 1, "record": {"title": {"value": "changed"}}}),
    );
    let delete = part(
        "DELETE",
        "/k/guest/9/v1/records.json",
        json!({"app": 2, "ids": [3]}),
    );
    let wrong = part(
        "PUT",
        "/k/v1/record.json",
        json!({"app": 1, "id": 99, "record": {}}),
    );

    let failing = json!({"requests": [add("a"), change, delete, wrong]});
    let (status, body) = call(&sim, "POST", "bulkRequest.json", &failing).await;
    assert_eq!(status, 404);
    let results = body["results"].as_array().unwrap();
    assert_eq!(results[..3], vec![json!({}); 3]);
    assert_eq!(results[3]["code"], "GAIA_RE01");
    let untouched = ["Acme", "サイボウズ", "Example"];
    assert_eq!(all_titles(&sim, 1), untouched);
    assert_eq!(all_titles(&sim, 2), untouched);
    assert!(!sim.ledger().executions.pop().unwrap().executed);

    let good = json!({"requests": [add("a"), change, delete]});
    let (status, body) = call(&sim, "POST", "bulkRequest.json", &good).await;
    let results = json!([{"ids": ["4"], "revisions": ["1"]}, {"revision": "2"}, {}]);
    assert_eq!((status, &body["results"]), (200, &results));
    assert_eq!(
        all_titles(&sim, 1),
        ["changed", "サイボウズ", "Example", "a"]
    );
    assert_eq!(all_titles(&sim, 2), untouched[..2]);

    for requests in [
        json!([part("GET", "/k/v1/records.json", json!({"app": 1}))]),
        json!([part(
            "POST",
            "/k/v1/bulkRequest.json",
            json!({"requests": []})
        )]),
        json!([]),
        json!(vec![add("b"); 21]),
    ] {
        let body = json!({ "requests": requests });
        assert_eq!(call(&sim, "POST", "bulkRequest.json", &body).await.0, 400);
    }
    let foreign =
        json!({"requests": [part("POST", "/k/v1/record.json", json!({"app": 2, "record": {}}))]});
    let (status, body) = call(&sim, "POST", "bulkRequest.json", &foreign).await;
    assert_eq!(
        (status, &body["results"][0]["code"]),
        (400, &json!("GAIA_IL23"))
    );
}

#[tokio::test]
async fn upsert_changes_what_is_there_and_adds_the_rest() {
    let sim = client::start(TenantSettings::default()).await;
    let entry = |key: &str, num: &str| json!({"updateKey": {"field": "title", "value": key}, "record": {"num": {"value": num}}});
    let upsert = |entries: Value| json!({"app": 1, "upsert": true, "records": entries});
    let both = upsert(json!([entry("Acme", "10"), entry("new", "11")]));
    let (status, done) = call(&sim, "PUT", "records.json", &both).await;
    let expected = json!([
        {"id": "1", "revision": "2", "operation": "UPDATE"},
        {"id": "4", "revision": "1", "operation": "INSERT"},
    ]);
    assert_eq!((status, &done["records"]), (200, &expected));
    let records = sim.records(HOST, 1);
    assert_eq!(records[0]["num"]["value"], "10");
    assert_eq!(
        (&records[3]["title"]["value"], &records[3]["num"]["value"]),
        (&json!("new"), &json!("11"))
    );

    // The second entry takes a title that is another record's.
    let clash = json!({"updateKey": {"field": "title", "value": "Example"}, "record": {"title": {"value": "Acme"}}});
    let (status, error) = call(
        &sim,
        "PUT",
        "records.json",
        &upsert(json!([entry("x", "1"), clash])),
    )
    .await;
    assert_eq!((status, &error["code"]), (400, &json!("CB_VA01")));
    assert_eq!(sim.records(HOST, 1), records);
}

#[tokio::test]
async fn a_form_has_a_row_for_each_field() {
    let sim = client::start(TenantSettings::default()).await;
    let mut client = Client::new(&sim).await;
    let layout = client
        .get("/k/v1/app/form/layout.json?app=1")
        .await
        .unwrap()
        .json();
    let rows = layout["layout"].as_array().unwrap();
    let codes: Vec<&Value> = rows.iter().map(|row| &row["fields"][0]["code"]).collect();
    assert_eq!(codes, ["title", "tel", "num", "files"]);
}
