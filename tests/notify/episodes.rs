//! One mail when an episode begins and one when it ends.

use std::time::Duration;

use kintone_sim::TenantSettings;
use tokio::time::sleep;

use crate::server::{PASSWORD, Server};
use crate::support::{ACME, House, Plan, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// The contacts of [`ACME`] and of a tenant of it.
const CONTACTS: &str = r#"
[account."acme.cybozu.com"]
contacts = ["admin@acme.example"]
[account."acme.cybozu.com".tenant.one]
contacts = ["one@acme.example"]
"#;

/// A refusal that calls go around is looked after by the gateway itself.
const ACCEPTANCE: &str = "[acceptance]\nprobe_open_interval = \"1s\"\n";

pub(crate) fn plan(server: &Server, more: &str, tenant: TenantSettings) -> Plan {
    plan_of(server.table("1s", more), tenant)
}

/// With this `[notify]`.
pub(crate) fn plan_of(notify: String, tenant: TenantSettings) -> Plan {
    Plan {
        tables: notify + ACCEPTANCE + CONTACTS,
        tenant,
        ..Plan::default()
    }
}

/// Only the second published address is let in.
pub(crate) fn half() -> TenantSettings {
    TenantSettings {
        allow: Some(vec!["127.0.1.241".parse().unwrap()]),
        ..TenantSettings::default()
    }
}

/// Calls one after another until `enough` says so.
pub(crate) async fn call_until(house: &House, mut enough: impl FnMut() -> bool) {
    let caller = house.caller();
    for _ in 0..600 {
        if enough() {
            return;
        }
        caller.get(RECORDS).await;
        sleep(Duration::from_millis(50)).await;
    }
    panic!("600 calls were not enough");
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_told_once_with_the_line_to_add_and_so_is_the_end() {
    let server = Server::start();
    house(plan(&server, "", half()), async |house| {
        call_until(&house, || !server.mails_to("admin@acme.example").is_empty()).await;
        house.sim.tenant(ACME, TenantSettings::default());
        call_until(&house, || server.mails_to("admin@acme.example").len() > 1).await;
        server.until("sre@service.example", 2).await;
        let mails = server.mails_to("admin@acme.example");
        assert_eq!((mails.len(), server.mails().len()), (2, 4));
        let [begin, end] = [&mails[0], &mails[1]];
        for mail in server.mails() {
            mail.check();
        }
        assert_eq!(
            begin.subject(),
            "【要対応】kintone連携: 18.177.83.94/32 が許可されていません(acme.cybozu.com)"
        );
        assert_eq!(
            end.subject(),
            "【復旧】kintone連携: 18.177.83.94/32 が許可されました(acme.cybozu.com)"
        );
        let begun = begin.header("Message-ID");
        assert!(begun.ends_with("@service.example>"), "{begun}");
        assert_eq!(end.header("In-Reply-To"), begun);
        let said = house.output.text();
        assert!(!said.contains(PASSWORD) && !said.contains("p@ss:w/rd"));
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_failing_calls_are_one_mail_to_each_who_can_mend_it() {
    let server = Server::start();
    let none = TenantSettings {
        users: std::collections::BTreeMap::new(),
        ..TenantSettings::default()
    };
    let plan = Plan {
        quota: "daily_per_app = 100000".into(),
        ..plan(&server, "", none)
    };
    house(plan, async |house| {
        let wrong = async |calls: u32| {
            let caller = house.caller_as("events+one", crate::support::TOKEN);
            let mut connection = caller.connect().await;
            for _ in 0..calls {
                let mut request = caller.request(http::Method::GET, RECORDS, bytes::Bytes::new());
                let token = http::HeaderValue::from_static("wrong-token");
                request.headers_mut().insert("x-cybozu-api-token", token);
                connection.ready().await.unwrap();
                let answer = connection.send_request(request).await.unwrap();
                let answer = crate::support::caller::read(answer).await.unwrap();
                assert_eq!(answer.header("kintone-egress-cause"), "authentication");
            }
        };
        tokio::join!(wrong(2500), wrong(2500), wrong(2500), wrong(2500));
        server.until("one@acme.example", 1).await;
        server.until("sre@service.example", 1).await;
        assert_eq!(server.mails().len(), 2, "{:?}", server.mails());
        let told = &server.mails_to("one@acme.example")[0];
        assert_eq!(
            told.subject(),
            "【要対応】kintone連携: kintone にログインできません(acme.cybozu.com)"
        );
        let body = told.body();
        let (japanese, english) = (body.find("何が起きているか"), body.find("What happens"));
        assert!(japanese.unwrap() < english.unwrap(), "{body}");
    })
    .await;
}

/// Operators are told of kintone's maintenance, customers are not.
#[tokio::test]
async fn maintenance_is_told_to_operators_alone() {
    let server = Server::start();
    let maintained = TenantSettings {
        maintenance: kintone_sim::Maintenance::Text503,
        ..TenantSettings::default()
    };
    house(plan(&server, "", maintained), async |house| {
        call_until(&house, || !server.mails().is_empty()).await;
        let told = server.until("sre@service.example", 1).await;
        assert_eq!(
            told[0].subject(),
            "【運用】kintone連携: kintone がメンテナンス中です(acme.cybozu.com)"
        );
        house.sim.tenant(ACME, TenantSettings::default());
        call_until(&house, || server.mails().len() > 1).await;
        assert_eq!(server.mails_to("admin@acme.example").len(), 0);
    })
    .await;
}
