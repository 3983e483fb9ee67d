//! The gateway's own pages on the proxy listener.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use kintone_sim::{Fault, FaultKind};
use serde_json::Value;

use crate::schema;
use crate::support::caller::{Answer, Caller, ask_raw};
use crate::support::invariants::check_refusal;
use crate::support::{ACME, House, Plan, TOKEN, basic, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// A page below `/.kintone-egress/`, asked for with these further header lines.
async fn own(house: &House, page: &str, headers: &str) -> Answer {
    let head = format!(
        "GET /.kintone-egress/{page} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{headers}\r\n"
    );
    ask_raw(house.proxy, head.as_bytes()).await
}

/// What `me` tells this proxy user with [`TOKEN`].
async fn me(house: &House, user: &str, headers: &str) -> Value {
    let headers = format!("Proxy-Authorization: {}\r\n{headers}", basic(user));
    let answer = own(house, "me", &headers).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    schema::check(&answer.json(), "me");
    answer.json()
}

#[tokio::test]
async fn a_caller_sees_its_rights_and_limits() {
    let plan = Plan {
        tables: format!(
            "[account.\"acme.cybozu.com\".tenant.company-1]\nweight = 3\nconcurrency = 9\n\
             [[caller]]\nname = \"narrow\"\ntoken_sha256 = \"{}\"\nnetworks = [\"127.0.0.0/8\"]\n\
             accounts = [\"*.cybozu.com\"]\ntenants = [\"company-*\"]\nmodes = [\"forward\"]\n\
             priority = \"batch\"\nmax_wait = \"3s\"\n",
            kintone_egress::config::token::hash_token(b"canary-narrow").to_hex()
        ),
        quota: "rate = 50\nburst = 7".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        let caller = house.caller_as(
            "narrow+company-1;wait=2000;purpose=incoming",
            "canary-narrow",
        );
        let authorization = caller.request(Method::GET, RECORDS, "");
        let authorization = authorization.headers()["proxy-authorization"]
            .to_str()
            .unwrap();
        let headers = format!("Proxy-Authorization: {authorization}\r\n");
        let page = own(&house, "me", &headers).await.json();
        schema::check(&page, "me");
        for (pointer, value) in [
            ("/name", "narrow".into()),
            ("/credential", "1".into()),
            ("/tenant", "company-1".into()),
            ("/tenant_allowed", true.into()),
            ("/priority", "batch".into()),
            ("/purpose", "incoming".into()),
            ("/client", "127.0.0.1".into()),
            ("/rights/accounts/0", "*.cybozu.com".into()),
            ("/rights/tenants/0", "company-*".into()),
            ("/rights/modes/0", "forward".into()),
            ("/rights/networks/0", "127.0.0.0/8".into()),
            ("/rights/priority", "batch".into()),
            ("/rights/max_wait_ms", 3000.into()),
            ("/limits/concurrency", 100.into()),
            ("/limits/permits", 80.into()),
            ("/limits/burst", 7.into()),
            ("/limits/max_wait_ms", 2000.into()),
            ("/in_flight", 0.into()),
            ("/waiting", 0.into()),
        ] {
            assert_eq!(page.pointer(pointer), Some(&value), "{pointer} in {page}");
        }
        assert_eq!(page["refusals"].as_array().unwrap().len(), 0);
        let strange = own(
            &house,
            "me",
            &format!("{headers}Kintone-Egress-Tenant: x\r\n"),
        )
        .await;
        check_refusal_kept(&strange, 400, "GW_BAD_REQUEST");
    })
    .await;
}

fn check_refusal_kept(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), &*answer.code()), (status, code));
}

#[tokio::test]
async fn a_caller_sees_its_last_refusals_and_nobody_elses() {
    house(Plan::default(), async |house| {
        let caller = house.caller_as("events+company-1", TOKEN);
        let mut told: Vec<Answer> = Vec::new();
        told.push(caller.get("https://www.example.com/canary-path").await);
        house.sim.fault(Fault::once(FaultKind::ResetAfterExecuting));
        told.push(caller.post_record(ACME, "broken").await.unwrap());
        let other_tenant = house.caller_as("events+company-2", TOKEN);
        told.push(other_tenant.get("https://acme.cybozu.com:8443/").await);
        let refused = caller.open_tunnel_by(
            "CONNECT acme.cybozu.com:22 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {auth}\r\n\r\n",
        );
        told.push(refused.await.unwrap_err());
        let other = house.batch_caller().get("https://other.example.com/").await;
        // Neither wrong credentials nor what was answered by kintone is its refusal.
        house.caller_as("events", "wrong").get(RECORDS).await;
        assert_eq!(caller.get(RECORDS).await.status, StatusCode::OK);
        house
            .until("all have ended", |house| house.output.lines().len() >= 7)
            .await;

        let page = me(&house, "events", "").await;
        let refusals = page["refusals"].as_array().unwrap();
        assert_eq!(refusals.len(), told.len(), "{page}");
        for (refusal, told) in refusals.iter().zip(told.iter().rev()) {
            assert_eq!(refusal["id"], told.id());
            assert_eq!(refusal["code"], told.code());
            assert_eq!(refusal["status"], told.status.as_u16());
            assert_eq!(refusal["message"], told.json()["message"], "word for word");
            assert_eq!(refusal["actor"], told.header("kintone-egress-actor"));
        }
        let codes: BTreeSet<_> = refusals
            .iter()
            .map(|refusal| refusal["code"].as_str())
            .collect();
        assert_eq!(codes.len(), 2, "{codes:?}");
        assert_eq!(refusals[0]["mode"], "tunnel");
        assert!(!page.to_string().contains(other.id()) && !page.to_string().contains("canary"));

        // Who names a tenant sees that tenant's.
        let page = me(&house, "events+company-2", "").await;
        let refusals = page["refusals"].as_array().unwrap();
        assert_eq!(refusals.len(), 1, "{page}");
        assert_eq!(refusals[0]["id"], told[2].id());
        let page = me(&house, "events+company-3", "").await;
        assert_eq!(page["refusals"].as_array().unwrap().len(), 0);

        let page = me(&house, "events", "Accept-Language: ja\r\n").await;
        let message = page["refusals"][0]["message"].as_str().unwrap();
        assert!(message.ends_with("必要です。"), "{message}");
    })
    .await;
}

#[tokio::test]
async fn a_caller_sees_its_own_calls_under_way() {
    let mut plan = Plan {
        quota: "concurrency = 22\ninteractive_reserve = 0".into(),
        ceiling: 2,
        ..Plan::default()
    };
    plan.tenant.latency.base_ms = 1500;
    house(plan, async |house| {
        let spawn = |caller: Caller| tokio::spawn(async move { caller.get(RECORDS).await });
        let calls = [
            spawn(house.caller_as("events+company-1", TOKEN)),
            spawn(house.caller_as("events+company-2", TOKEN)),
        ];
        house
            .until("they run", |house| {
                house.sim.accounting(ACME).in_process == 2
            })
            .await;
        let waiting = spawn(house.caller_as("events+company-1", TOKEN));
        let others = spawn(house.batch_caller());
        house
            .until("they wait", |house| house.quotas.snapshot()[0].queued == 2)
            .await;
        let page = me(&house, "events", "").await;
        assert_eq!(
            (&page["in_flight"], &page["waiting"]),
            (&2.into(), &1.into())
        );
        assert_eq!(page["accounts"][0]["account"], ACME);
        assert_eq!(page["accounts"][0]["in_flight"], 2);
        assert_eq!(page["accounts"][0]["limits"]["permits"], 2);
        let page = me(&house, "events+company-2", "").await;
        assert_eq!(
            (&page["in_flight"], &page["waiting"]),
            (&1.into(), &0.into())
        );
        let page = me(&house, "events+company-3", "").await;
        assert_eq!(page["accounts"].as_array().unwrap().len(), 0);
        for call in calls.into_iter().chain([waiting, others]) {
            assert_eq!(call.await.unwrap().status, StatusCode::OK);
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_refusals_are_bounded_and_outlive_a_reload() {
    house(Plan::default(), async |house| {
        let caller = house.caller();
        for _ in 0..60 {
            caller.get("https://www.example.com/").await;
        }
        let last = caller.get("https://www.example.com/").await;
        house
            .until("all have ended", |house| house.output.lines().len() >= 61)
            .await;
        house.reconfigure(|text| text.replace("[quota]", "[quota]\nconcurrency = 90"));
        house
            .signals
            .send(kintone_egress::gateway::Signal::Reload)
            .await
            .unwrap();
        while me(&house, "events", "").await["limits"]["permits"] != 70 {}
        let page = me(&house, "events", "").await;
        let refusals = page["refusals"].as_array().unwrap();
        assert_eq!(refusals.len(), 50);
        assert_eq!(refusals[0]["id"], last.id());
    })
    .await;
}

#[tokio::test]
async fn who_is_nobody_learns_nothing() {
    house(Plan::default(), async |house| {
        let refused = own(&house, "me", "").await;
        check_refusal(
            &refused,
            407,
            "GW_AUTHENTICATION_REQUIRED",
            "http_request_denied",
        );
        assert_eq!(
            refused.header("proxy-authenticate"),
            "Basic realm=\"kintone-egress\""
        );
        let wrong = house
            .caller_as("events", "wrong")
            .request(Method::GET, RECORDS, "");
        let wrong = wrong.headers()["proxy-authorization"]
            .to_str()
            .unwrap()
            .to_owned();
        let refused = own(&house, "me", &format!("Proxy-Authorization: {wrong}\r\n")).await;
        check_refusal(
            &refused,
            407,
            "GW_AUTHENTICATION_REQUIRED",
            "http_request_denied",
        );
        // `ready` is for load balancers, which have no credentials.
        assert_eq!(own(&house, "ready", "").await.status, StatusCode::OK);
        for page in ["", "nothing", "me/", "Me", "ready/x"] {
            let refused = own(&house, page, "").await;
            check_refusal(&refused, 400, "GW_BAD_REQUEST", "http_request_error");
            let message = refused.json()["message"].to_string();
            assert!(
                message.contains("ready, help, ca.pem and me"),
                "{page}: {message}"
            );
        }
        let posted = format!(
            "POST /.kintone-egress/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: 0\r\nProxy-Authorization: {}\r\n\r\n",
            basic("events")
        );
        let refused = ask_raw(house.proxy, posted.as_bytes()).await;
        check_refusal(&refused, 405, "GW_BAD_REQUEST", "http_request_error");
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_that_was_refused_after_its_200_is_told_too() {
    house(Plan::default(), async |house| {
        let caller = house.caller();
        let tunnel = caller.open_tunnel(ACME).await.unwrap();
        assert!(caller.tls(tunnel, "other.cybozu.com").await.is_err());
        house
            .until("it has ended", |house| house.output.lines().len() == 1)
            .await;
        let line = &house.output.lines()[0];
        let page = me(&house, "events", "").await;
        let refusal = &page["refusals"][0];
        assert_eq!(refusal["id"], line["id"]);
        assert_eq!(refusal["code"], "GW_DESTINATION_FORBIDDEN");
        assert!(
            refusal["message"]
                .as_str()
                .unwrap()
                .contains("sni_mismatch")
        );
    })
    .await;
}
