//! Accounts of which the file does not say which address they accept: that is learned.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::hosts::{BIND, GIVER, Host, LINE, REFUSED, REFUSED_BIND, Site, Wish};
use crate::store::Store;
use crate::support::ACME;
use crate::support::caller::fetch_plain;

const PATIENCE: Duration = Duration::from_secs(20);

fn url() -> String {
    format!("https://{ACME}/k/v1/records.json?app=1")
}

/// What a host knows of the account at that address.
async fn state(host: &Host, address: &str) -> String {
    let (status, page) =
        fetch_plain(host.admin, &format!("/api/v1/readiness?address={address}")).await;
    assert_eq!(status, 200, "{page}");
    let report: Value = serde_json::from_str(&page).unwrap();
    let accounts = report["accounts"].as_array().unwrap();
    let account = accounts.iter().find(|one| one["account"] == ACME);
    account.map_or_else(String::new, |one| one["state"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_handed_over_once_kintone_has_refused_this_hosts_address() {
    let site = Site::new(Wish {
        account: "probe = false\n".to_owned(),
        ..Wish::default()
    })
    .await;
    let (giver, owner) = site.start_both().await;
    let caller = giver.caller();
    for _ in 0..6 {
        let answer = caller.get(&url()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.header("kintone-egress-address"), LINE);
        assert_eq!(state(&giver, REFUSED).await, "refused");
    }
    owner.rest().await;
    assert_eq!(giver.handed("answered").await, 6.0);
    let acquired = giver.metric("kintone_egress_permits_acquired_total").await;
    assert_eq!(acquired, 1.0, "only the first one was tried here");
    giver.leave().await;
    owner.leave().await;
    site.check_from(&[BIND, REFUSED_BIND]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_host_has_learned_the_other_one_knows() {
    let store = Store::with_acl();
    let site = Site::new(Wish {
        account: "probe = false\n".to_owned(),
        fleet: format!("redis = \"{}\"\nside_every = \"2s\"\n", store.url_of_user()),
        ..Wish::default()
    })
    .await;
    let (giver, owner) = site.start_both().await;
    let taken = giver.caller().get(&url()).await;
    assert_eq!(taken.status, StatusCode::OK, "handed over");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let of_giver = [state(&giver, REFUSED).await, state(&giver, LINE).await];
        let of_owner = [state(&owner, REFUSED).await, state(&owner, LINE).await];
        if of_giver == ["refused", "accepted"] && of_owner == of_giver {
            break;
        }
        assert!(Instant::now() < deadline, "{of_giver:?} {of_owner:?}");
        sleep(Duration::from_millis(100)).await;
    }
    giver.leave().await;
    owner.leave().await;
    site.check_from(&[BIND, REFUSED_BIND]);
}

/// What the admin listener tells of an account.
async fn told(host: &Host, account: &str) -> (u16, Value) {
    let (status, page) = fetch_plain(host.admin, &format!("/api/v1/accounts/{account}")).await;
    (status, serde_json::from_str(&page).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_what_is_known_of_an_account_that_nobody_calls() {
    const KNOWN: &str = "quiet.cybozu.com";
    let site = Site::new(Wish::default()).await;
    let folder = site.configure(GIVER, &site.certificate(GIVER));
    let since = "2026-11-20T00:00:00Z";
    let kept = serde_json::json!({
        "version": 1,
        "accounts": [{
            "account": KNOWN,
            "addresses": [{"address": LINE, "accepted": since, "since": since}],
        }],
    });
    let state = folder.join("state");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("acceptance.json"), kept.to_string()).unwrap();
    let giver = site.launch(GIVER, folder).await;
    let (status, page) = told(&giver, KNOWN).await;
    assert_eq!(status, 200, "{page}");
    let line = |address: &str, state: &str, since: Value| {
        serde_json::json!({
            "address": address, "state": state, "since": since, "seen": since, "asked": null,
        })
    };
    let expected = [
        line(REFUSED, "unknown", Value::Null),
        line(LINE, "accepted", since.into()),
    ];
    assert_eq!(page["acceptance"], Value::from(expected.to_vec()));
    assert_eq!(
        (&page["limit"], &page["inflight"]),
        (&100.into(), &0.into())
    );
    assert_eq!(told(&giver, ACME).await.0, 200, "it is configured");
    let (status, failure) = told(&giver, "nobody.cybozu.com").await;
    assert_eq!(
        (status, &failure["code"]),
        (404, &"account_not_found".into())
    );
    let listed = fetch_plain(giver.admin, "/api/v1/accounts").await.1;
    assert!(!listed.contains(KNOWN), "it is not in use: {listed}");
    giver.leave().await;
}
