//! The mail server is away, refuses, or hangs: nothing is lost, and nothing comes twice.

use std::time::Duration;

use kintone_sim::TenantSettings;
use tokio::time::{Instant, sleep};

use crate::episodes::{call_until, half, plan};
use crate::server::Server;
use crate::support::{ACME, house};

const OVERDUE: &str = "kintone_egress_mail_overdue_seconds";

#[tokio::test]
async fn what_begins_and_ends_while_the_server_is_away_comes_once_when_it_is_back() {
    let mut server = Server::stopped();
    house(plan(&server, "retry_max = \"2s\"", half()), async |house| {
        let queued = "kintone_egress_mails{state=\"queued\"}";
        let caller = house.caller();
        let url = "https://acme.cybozu.com/k/v1/records.json?app=1";
        let begin = Instant::now();
        let in_time = || {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "it takes too long"
            );
        };
        while house.metric(queued).await < Some(2.0) {
            in_time();
            caller.get(url).await;
        }
        house.sim.tenant(ACME, TenantSettings::default());
        while house.metric(queued).await < Some(4.0) || house.metric(OVERDUE).await < Some(3.0) {
            in_time();
            caller.get(url).await;
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(server.mails().len(), 0);
        server.resume();
        server.until("admin@acme.example", 2).await;
        server.until("sre@service.example", 2).await;
        while house.metric(queued).await > Some(0.0) {
            in_time();
            sleep(Duration::from_millis(20)).await;
        }
        let subjects: Vec<_> = server.mails_to("admin@acme.example");
        let subjects: Vec<_> = subjects.iter().map(|mail| mail.subject()).collect();
        assert!(subjects[0].starts_with("【要対応】") && subjects[1].starts_with("【復旧】"));
        assert_eq!(server.mails().len(), 4);
        assert_eq!(house.metric(OVERDUE).await, Some(0.0));
    })
    .await;
}

#[tokio::test]
async fn a_mail_that_is_refused_holds_up_no_other() {
    let server = Server::start();
    let mut plan = plan(&server, "", half());
    let contacts =
        "contacts = [\"no@never.example\", \"soon@later.example\", \"admin@acme.example\"]";
    plan.tables = plan
        .tables
        .replace("contacts = [\"admin@acme.example\"]", contacts);
    house(plan, async |house| {
        call_until(&house, || !server.mails_to("soon@later.example").is_empty()).await;
        server.until("admin@acme.example", 1).await;
        let given_up = "kintone_egress_mails_total{result=\"given_up\"}";
        assert_eq!(house.metric(given_up).await, Some(1.0));
        assert_eq!(
            house.metric("kintone_egress_mails{state=\"dead\"}").await,
            Some(1.0)
        );
        let dead = house.config_path.with_file_name("state").join("mail/dead");
        let file = std::fs::read_dir(dead).unwrap().next().unwrap().unwrap();
        let label = std::fs::read_to_string(file.path()).unwrap();
        let label: serde_json::Value = serde_json::from_str(label.lines().next().unwrap()).unwrap();
        assert_eq!(label["to"], "no@never.example");
    })
    .await;
}
