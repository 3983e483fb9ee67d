//! Accounts of which the file does not say which address they accept: that is learned.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::hosts::{BIND, Host, LINE, Site, Wish};
use crate::store::Store;
use crate::support::ACME;
use crate::support::caller::fetch_plain;

/// The address of the host to which callers go, as published and as bound.
const REFUSED: &str = "18.177.83.94";
const REFUSED_BIND: &str = "127.0.1.94";

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
    let first = caller.get(&url()).await;
    assert_eq!(first.status, StatusCode::FORBIDDEN, "kintone's own refusal");
    assert_eq!(state(&giver, REFUSED).await, "refused");
    for _ in 0..5 {
        let answer = caller.get(&url()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.header("kintone-egress-address"), LINE);
    }
    owner.rest().await;
    assert_eq!(giver.handed("answered").await, 5.0);
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
    let refused = giver.caller().get(&url()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let taken = owner.caller().get(&url()).await;
    assert_eq!(taken.status, StatusCode::OK);
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
