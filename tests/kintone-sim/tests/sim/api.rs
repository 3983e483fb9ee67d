//! The edge and the REST API.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kintone_sim::{
    AppSettings, DeniedAnswer, ErrorStyle, Maintenance, Right, TenantSettings, Token,
};
use serde_json::json;

use crate::client::{self, Client, HOST, RECORDS};

fn plain(target: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::get(target).header("Host", HOST);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

#[tokio::test]
async fn the_edge_refuses_in_kintones_words_without_its_headers() {
    let sim = client::start(TenantSettings::default()).await;
    let mut client = Client::new(&sim).await;
    type Knob = fn(&mut TenantSettings);
    let cases: [(u16, &str, Knob); 5] = [
        (403, "text/html", |s| s.allow = Some(Vec::new())),
        (401, "text/html", |s| s.denied = DeniedAnswer::Html401),
        (401, "application/json", |s| {
            s.denied = DeniedAnswer::Json401;
        }),
        (503, "text/plain", |s| s.maintenance = Maintenance::Text503),
        (502, "text/html", |s| s.maintenance = Maintenance::Html502),
    ];
    for (status, content_type, knob) in cases {
        sim.update(HOST, knob);
        let answer = client.get(RECORDS).await.unwrap();
        assert_eq!(answer.status, status);
        assert!(answer.header("content-type").starts_with(content_type));
        assert!(!answer.headers.contains_key("x-concurrencylimit-limit"));
    }
    sim.update(HOST, |settings| *settings = TenantSettings::default());
    let long = format!("{RECORDS}&query={}", "a".repeat(8192));
    assert_eq!(client.get(&long).await.unwrap().status, 414);
    assert_eq!(
        client.get("/k/v1/records.JSON?app=1").await.unwrap().status,
        404
    );
    let mut other = plain(RECORDS, &[]);
    other
        .headers_mut()
        .insert("host", "other.cybozu.com".parse().unwrap());
    assert_eq!(client.send(other).await.unwrap().status, 421);
}

#[tokio::test]
async fn credentials_are_judged_as_kintone_does() {
    let mut settings = TenantSettings::default();
    settings.apps[0].tokens.push(Token {
        value: "add-only".to_owned(),
        rights: vec![Right::Add],
    });
    let sim = client::start(settings).await;
    let mut client = Client::new(&sim).await;
    const TOKEN: &str = "X-Cybozu-API-Token";
    const PASSWORD: &str = "X-Cybozu-Authorization";
    type Headers = &'static [(&'static str, &'static str)];
    let cases: [(Headers, u16, &str); 7] = [
        (&[], 401, "CB_AU01"),
        (&[(PASSWORD, "ZGVtbzp3cm9uZw==")], 401, "CB_WA01"),
        (&[(PASSWORD, "ZGVtbzpkZW1v"), (TOKEN, "wrong")], 200, ""),
        (&[(TOKEN, "wrong")], 400, "GAIA_IA02"),
        (&[(TOKEN, "add-only")], 403, "GAIA_NO01"),
        (&[(TOKEN, "wrong"), (TOKEN, "x,demo-token")], 200, ""),
        (
            &[(TOKEN, "1,2,3,4,5"), (TOKEN, "6,7,8,9,demo-token")],
            400,
            "CB_VA01",
        ),
    ];
    for style in [ErrorStyle::Current, ErrorStyle::Legacy520] {
        sim.update(HOST, |settings| settings.errors = style);
        for (headers, status, code) in cases {
            let answer = client.send(plain(RECORDS, headers)).await.unwrap();
            let legacy = style == ErrorStyle::Legacy520 && status != 200 && code != "CB_VA01";
            assert_eq!(
                answer.status,
                if legacy { 520 } else { status },
                "{headers:?}"
            );
            assert_eq!(answer.header("x-cybozu-error"), code);
            assert_eq!(answer.header("x-concurrencylimit-running"), "1");
        }
    }
}

#[tokio::test]
async fn records_are_added_changed_found_and_deleted() {
    let sim = client::start(TenantSettings::default()).await;
    let added = client::send(
        &sim,
        "POST",
        "/k/v1/records.json",
        r#"{"app":"1","records":[{"title":{"value":"a"},"num":{"value":10}},{"title":{"value":"b \"q\""},"num":{"value":"9"}}]}"#,
    )
    .await;
    assert_eq!(
        added.json(),
        json!({"ids": ["4", "5"], "revisions": ["1", "1"]})
    );
    let clash = client::send(
        &sim,
        "POST",
        "/k/v1/record.json",
        r#"{"app":1,"record":{"title":{"value":"a"}}}"#,
    )
    .await;
    assert_eq!(
        clash.json()["errors"]["record.title.value"]["messages"][0],
        "値がほかのレコードと重複しています。"
    );
    let batch = r#"{"app":1,"records":[{"title":{"value":"z"}},{"title":{"value":"z"}}]}"#;
    assert_eq!(
        client::send(&sim, "POST", "/k/v1/records.json", batch)
            .await
            .status,
        400
    );

    let find = |query: &str| {
        let body = json!({"app": 1, "query": query, "fields": ["$id"], "totalCount": true});
        let mut request = client::request("POST", "/k/v1/records.json", &body.to_string());
        let get = "GET".parse().unwrap();
        request.headers_mut().insert("x-http-method-override", get);
        request
    };
    let mut client = Client::new(&sim).await;
    let cases: [(&str, &[&str]); 7] = [
        ("", &["5", "4", "3", "2", "1"]),
        (r#"title = "b \"q\"""#, &["5"]),
        (r#"tel in ("0312345678","03-1234-5678")"#, &["2", "1"]),
        ("num > 3 order by num asc", &["5", "4"]),
        (r#"(title like "cm" or num = 3) and $id < 3"#, &["1"]),
        ("order by $id asc limit 2 offset 1", &["2", "3"]),
        (r#"title not in ("a") and num != 9"#, &["3", "2", "1"]),
    ];
    for (query, ids) in cases {
        let answer = client.send(find(query)).await.unwrap().json();
        let got: Vec<&str> = answer["records"]
            .as_array()
            .unwrap_or_else(|| panic!("{query}: {answer}"))
            .iter()
            .map(|record| record["$id"]["value"].as_str().unwrap())
            .collect();
        assert_eq!(got, ids, "{query}");
    }
    for (query, code) in [
        ("nofield = 1", "GAIA_IQ11"),
        ("num like \"1\"", "GAIA_IQ03"),
        ("limit 501", "GAIA_QU01"),
        ("offset 10001", "GAIA_QU02"),
        ("title = ", "CB_VA01"),
        ("title = \"a", "CB_VA01"),
    ] {
        let answer = client.send(find(query)).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-cybozu-error")),
            (400, code),
            "{query}"
        );
    }

    let change = |body: &str| client::request("PUT", "/k/v1/record.json", body);
    let put = change(
        r#"{"app":1,"updateKey":{"field":"title","value":"a"},"revision":1,"record":{"num":{"value":"11"}}}"#,
    );
    assert_eq!(
        client.send(put).await.unwrap().json(),
        json!({"revision": "2"})
    );
    let put = change(r#"{"app":1,"id":4,"revision":1,"record":{"num":{"value":"12"}}}"#);
    let stale = client.send(put).await.unwrap();
    assert_eq!(
        (stale.status.as_u16(), stale.header("x-cybozu-error")),
        (409, "GAIA_CO02")
    );
    let delete = "/k/v1/records.json?app=1&ids%5B0%5D=4&ids[1]=5";
    assert_eq!(
        client::send(&sim, "DELETE", delete, "").await.json(),
        json!({})
    );
    let gone = client.get("/k/v1/record.json?app=1&id=4").await.unwrap();
    assert_eq!(
        (gone.status.as_u16(), gone.header("x-cybozu-error")),
        (404, "GAIA_RE01")
    );
    let last = sim.ledger().executions.pop().unwrap();
    assert!(last.admitted && !last.executed);
}

#[tokio::test]
async fn apps_forms_and_guest_spaces() {
    let mut settings = TenantSettings::default();
    settings.apps.push(AppSettings {
        id: 2,
        guest_space: Some(9),
        ..AppSettings::demo()
    });
    let sim = client::start(settings).await;
    let mut client = Client::new(&sim).await;
    let fields = client
        .get("/k/v1/app/form/fields.json?app=1")
        .await
        .unwrap()
        .json();
    assert_eq!(fields["properties"]["title"]["unique"], true);
    assert_eq!(fields["properties"]["tel"]["protocol"], "CALL");
    let app = client.get("/k/v1/app.json?id=1").await.unwrap().json();
    assert_eq!(app["appId"], "1");
    for (target, status, code) in [
        ("/k/guest/9/v1/records.json?app=2", 200, ""),
        ("/k/v1/records.json?app=2", 400, "GAIA_IL23"),
        ("/k/guest/9/v1/records.json?app=1", 403, "CB_NO02"),
        ("/k/v1/records.json?app=3", 404, "GAIA_AP01"),
        ("/k/v1/records.json", 400, "CB_VA01"),
    ] {
        let answer = client.get(target).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-cybozu-error")),
            (status, code),
            "{target}"
        );
    }
    let mut empty = plain(RECORDS, &[("X-Cybozu-API-Token", "demo-token")]);
    let json = "application/json".parse().unwrap();
    empty.headers_mut().insert("content-type", json);
    assert_eq!(
        client.send(empty).await.unwrap().header("x-cybozu-error"),
        "CB_IJ01"
    );
    let head = client::request("HEAD", RECORDS, "");
    let head = client.send(head).await.unwrap();
    assert!(
        head.status == 200 && head.body.is_empty() && !head.header("content-length").is_empty()
    );
    let today = sim.accounting(HOST).requests_today;
    assert_eq!((today[&1], today[&2]), (3, 1));
    assert!(
        sim.ledger()
            .executions
            .iter()
            .all(|e| e.end.is_some() && !e.client_left)
    );
}
