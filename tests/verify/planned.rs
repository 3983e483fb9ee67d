//! An address before its day: proven as the others are, so that probes can leave from it.

use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::echo::{Does, Echo, FIRST, INTERVAL, Leaving, RIGHT, SECOND, STRANGE, plan, shown};
use crate::support::{House, Plan, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// The second as a strange one.
const SECOND_WRONG: Leaving = Leaving {
    first: FIRST.0,
    second: STRANGE,
};

/// What is known of the account at the planned address.
async fn known(house: &House) -> Value {
    let path = format!("/api/v1/readiness?address={}", SECOND.0);
    let (status, page) = house.admin_page(&path).await;
    assert_eq!(status, 200, "{page}");
    let report: Value = serde_json::from_str(&page).unwrap();
    report["accounts"][0]["state"].clone()
}

/// Connections that kintone has seen from the planned address.
fn probes(house: &House) -> usize {
    let planned: IpAddr = SECOND.1.parse().unwrap();
    let executions = house.sim.ledger().executions;
    let its = executions.iter().filter(|call| call.peer.ip() == planned);
    its.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_address_is_probed_once_it_is_seen_as_published_and_carries_no_call() {
    let echo = Echo::telling(SECOND_WRONG).await;
    let with_echo = plan(&[&echo]);
    let plan = Plan {
        addresses: format!(
            "[[egress.address]]\npublished = \"{}\"\nbind = \"{}\"\n[[egress.address]]\npublished = \
             \"{}\"\nbind = \"{}\"\nstate = \"planned\"\nvalid_from = 2199-04-01\n",
            FIRST.0, FIRST.1, SECOND.0, SECOND.1
        ),
        tables: format!(
            "{}\n[acceptance]\nprobe_interval = \"1s\"\n[account.\"acme.cybozu.com\"]\n",
            with_echo.tables
        ),
        ..with_echo
    };
    house(plan, async |house| {
        sleep(INTERVAL * 3).await;
        let seen = shown(&house, SECOND.0).await;
        assert_eq!(seen["verification"]["seen"], "other", "{seen}");
        assert_eq!(known(&house).await, "unknown");
        assert_eq!(probes(&house), 0, "it leaves as another address");
        echo.now(Does::Tells(RIGHT));
        let deadline = Instant::now() + Duration::from_secs(20);
        while known(&house).await != "accepted" {
            assert!(Instant::now() < deadline, "{}", known(&house).await);
            sleep(Duration::from_millis(50)).await;
        }
        assert!(probes(&house) > 0);
        for _ in 0..4 {
            let answer = house.caller().get(RECORDS).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("kintone-egress-address"), FIRST.0);
        }
    })
    .await;
}
