//! The calls of the day: counted, shown, warned of, refused.

use http::{HeaderValue, Method, StatusCode};
use kintone_sim::{Fault, FaultKind};
use serde_json::{Value, json};

use crate::schema;
use crate::support::caller::{Answer, Caller, record};
use crate::support::{ACME, House, Plan, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";
const RECORD: &str = "https://acme.cybozu.com/k/v1/record.json";

async fn days(house: &House) -> Value {
    let path = format!("/api/v1/accounts/{ACME}/days");
    let (status, page) = house.admin_page(&path).await;
    assert_eq!(status, 200, "{page}");
    let page: Value = serde_json::from_str(&page).unwrap();
    schema::check(&page, "days");
    page
}

/// What was counted today: app, purpose, tenant, calls.
async fn counted(house: &House) -> Vec<Value> {
    let page = days(house).await;
    let rows = page["days"].as_array().unwrap().iter();
    rows.map(|row| {
        assert_eq!(row["uncertain"], 0, "{row}");
        json!([row["app"], row["purpose"], row["tenant"], row["requests"]])
    })
    .collect()
}

async fn tell(
    caller: &Caller,
    method: Method,
    url: &str,
    body: &str,
    named: &[(&'static str, &str)],
) -> Answer {
    let mut request = caller.request(method, url, body.to_owned());
    for (name, value) in named {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().insert(*name, value);
    }
    caller.send(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_counted_by_app_purpose_and_tenant_and_shown_everywhere() {
    house(Plan::default(), async |house| {
        let caller = house.caller();
        let incoming = [
            ("kintone-egress-purpose", "incoming"),
            ("kintone-egress-tenant", "company-1"),
        ];
        for turn in 0..3 {
            tell(&caller, Method::GET, RECORDS, "", &incoming).await;
            let title = format!("t{turn}");
            let posted = tell(&caller, Method::POST, RECORD, &record(&title), &[]).await;
            assert_eq!(posted.status, StatusCode::OK);
        }
        // In a body of a GET, in one that names its app last, and an app that is nowhere.
        tell(
            &caller,
            Method::GET,
            "https://acme.cybozu.com/k/v1/records.json",
            "{\"app\": 1}",
            &[],
        )
        .await;
        let late = format!(
            "{{\"record\": {{\"num\": {{\"value\": \"{}\"}}}}, \"app\": \"1\"}}",
            "1".repeat(100)
        );
        tell(&caller, Method::POST, RECORD, &late, &[]).await;
        tell(
            &caller,
            Method::GET,
            "https://acme.cybozu.com/k/v1/records.json",
            "",
            &[],
        )
        .await;
        // Not counted: no app's call.
        tell(
            &caller,
            Method::GET,
            "https://acme.cybozu.com/k/v1/file.json?fileKey=x",
            "",
            &[],
        )
        .await;
        let expected = [
            json!([1, null, null, 5]),
            json!([1, "incoming", "company-1", 3]),
            json!(["unknown", null, null, 1]),
        ];
        assert_eq!(counted(&house).await, expected);
        assert_eq!(house.sim.accounting(ACME).requests_today[&1], 8);
        let (_, page) = house.admin_page(&format!("/api/v1/accounts/{ACME}")).await;
        let page: Value = serde_json::from_str(&page).unwrap();
        schema::check(&page, "account");
        let shown = json!([{"app": 1, "requests": 8}, {"app": "unknown", "requests": 1}]);
        assert_eq!(page["apps_today"], shown);
        let sample = "kintone_egress_app_requests_today{account=\"acme.cybozu.com\",app=\"1\"}";
        assert_eq!(house.metric(sample).await, Some(8.0));
        let budget = "kintone_egress_account_daily_per_app{account=\"acme.cybozu.com\"}";
        assert_eq!(house.metric(budget).await, Some(10_000.0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_refused_at_admission_counts_once_when_it_has_passed() {
    house(Plan::default(), async |house| {
        let refusal = Fault {
            count: Some(2),
            ..Fault::once(FaultKind::TooManyRequests)
        };
        house.sim.fault(refusal);
        let answer = tell(&house.caller(), Method::POST, RECORD, &record("once"), &[]).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(counted(&house).await, [json!([1, null, null, 1])]);
        // One whose outcome is unknown stays counted, and so does the try after it.
        house.sim.fault(Fault::once(FaultKind::ResetAfterExecuting));
        let answer = tell(&house.caller(), Method::GET, RECORDS, "", &[]).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(counted(&house).await, [json!([1, null, null, 3])]);
        assert_eq!(house.sim.accounting(ACME).requests_today[&1], 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enforced_budget_refuses_batch_calls_first_and_says_until_when() {
    let plan = Plan {
        quota: "daily_per_app = 20\ndaily_policy = \"enforce\"".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        let (caller, batch) = (house.caller(), house.batch_caller());
        for turn in 0..19 {
            let answer = match turn % 2 {
                0 => batch.get(RECORDS).await,
                _ => tell(&caller, Method::POST, RECORD, &record(&format!("t{turn}")), &[]).await,
            };
            assert_eq!(answer.status, StatusCode::OK, "{turn}");
        }
        for (who, refused_by, url, body) in [
            (&batch, 19, RECORDS, String::new()),
            (&batch, 19, RECORD, record("late")),
        ] {
            let method = if body.is_empty() { Method::GET } else { Method::POST };
            let answer = tell(who, method, url, &body, &[]).await;
            check_refusal(&answer, 19, refused_by);
        }
        assert_eq!(caller.get(RECORDS).await.status, StatusCode::OK);
        check_refusal(&caller.get(RECORDS).await, 20, 20);
        check_refusal(&tell(&caller, Method::POST, RECORD, &record("x"), &[]).await, 20, 20);
        // Other apps, and calls of none, go on.
        let other = caller.get("https://acme.cybozu.com/k/v1/records.json?app=2").await;
        assert_ne!(other.code(), "GW_DAILY_BUDGET");
        assert_eq!(house.sim.accounting(ACME).requests_today[&1], 20);
        for percent in ["80", "90", "95", "100"] {
            let sample = format!(
                "kintone_egress_daily_budget_warnings_total{{account=\"{ACME}\",percent=\"{percent}\"}}"
            );
            assert_eq!(house.metric(&sample).await, Some(1.0), "{percent}");
        }
        let refused = "kintone_egress_account_refused_total{account=\"acme.cybozu.com\",reason=\"daily_budget\"}";
        assert_eq!(house.metric(refused).await, Some(4.0));
    })
    .await;
}

fn check_refusal(answer: &Answer, requests: u64, budget: u64) {
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.code(), "GW_DAILY_BUDGET");
    assert_eq!(answer.header("retry-after"), "");
    let at = answer.header("kintone-egress-retry-at");
    assert!(at.ends_with("T09:00:00+09:00"), "{at}");
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["retry_at"], at);
    let message = body["message"].as_str().unwrap();
    let figures = format!("app 1: {requests} calls today, {budget} let through");
    assert!(message.contains(&figures), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_are_told_as_csv_too_and_a_bad_question_is_named() {
    house(Plan::default(), async |house| {
        house.caller().get(RECORDS).await;
        let today = days(&house).await["today"].as_str().unwrap().to_owned();
        let path = |query: &str| format!("/api/v1/accounts/{ACME}/days?{query}");
        let (status, csv) = house
            .admin_page(&path(&format!("from={today}&format=csv")))
            .await;
        assert_eq!(status, 200);
        assert_eq!(
            csv,
            format!(
                "day,account,app,purpose,tenant,requests,uncertain\r\n\
                 {today},{ACME},1,,,1,0\r\n"
            )
        );
        for (query, told) in [
            ("from=yesterday", "from is a date"),
            ("to=2026-02-30", "to is a date"),
            ("from=2026-02-02&to=2026-02-01", "after to"),
            ("format=xml", "format"),
            ("until=2026-01-01", "until"),
        ] {
            let (status, page) = house.admin_page(&path(query)).await;
            assert_eq!(status, 400, "{query}: {page}");
            assert!(
                page.contains("bad_query") && page.contains(told),
                "{query}: {page}"
            );
        }
        let (status, page) = house
            .admin_page("/api/v1/accounts/nowhere.cybozu.com/days")
            .await;
        assert_eq!(status, 404, "{page}");
    })
    .await;
}
