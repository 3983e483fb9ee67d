//! What may be our own fault is told to operators alone, until they decide.

use std::process::Output;

use kintone_egress::gateway::Signal;
use kintone_sim::TenantSettings;

use crate::hook::Hook;
use crate::server::Server;
use crate::support::program::{ask_house, said};
use crate::support::{House, Plan, house};

/// `kintone-egress notify` about a house.
async fn notify(house: &House, arguments: &[&str]) -> Output {
    ask_house(house, &["notify", arguments[0]], &arguments[1..]).await
}

fn name(number: usize) -> String {
    format!("a{number}.cybozu.com")
}

/// So many accounts, each with a contact of its own; operators have mail and a webhook.
fn plan(server: &Server, hook: &Hook, accounts: usize) -> Plan {
    let tables = (0..accounts).map(|number| {
        format!(
            "[account.\"{}\"]\ncontacts = [\"a{number}@customer.example\"]\n",
            name(number)
        )
    });
    Plan {
        tables: server.table("5s", &hook.key()) + &tables.collect::<String>(),
        keep: kintone_sim::Keep::Counts,
        ..Plan::default()
    }
}

/// Calls each of the accounts once.
async fn call_all(house: &House, accounts: usize) {
    let caller = house.caller();
    let mut connection = caller.connect().await;
    for number in 0..accounts {
        let url = format!("https://{}/k/v1/records.json?app=1", name(number));
        let request = caller.request(http::Method::GET, &url, bytes::Bytes::new());
        connection.ready().await.unwrap();
        let answer = connection.send_request(request).await.unwrap();
        crate::support::caller::read(answer).await.unwrap();
    }
}

/// Our addresses are let in nowhere any more, as if they had been translated to others.
fn translate(house: &House, accounts: usize) {
    for number in 0..accounts {
        let nobody = TenantSettings {
            allow: Some(Vec::new()),
            ..TenantSettings::default()
        };
        house.sim.tenant(&name(number), nobody);
    }
}

#[tokio::test]
async fn our_own_wrong_address_is_told_to_operators_once_and_to_none_of_a_thousand_customers() {
    const ACCOUNTS: usize = 1000;
    let (server, hook) = (Server::start(), Hook::start().await);
    house(plan(&server, &hook, ACCOUNTS), async |house| {
        translate(&house, ACCOUNTS);
        let cause = "kintone_egress_mails{state=\"held\"}";
        let mut held = 0.0;
        // Three calls of each are enough where they span a second.
        for _ in 0..12 {
            call_all(&house, ACCOUNTS).await;
            held = house.metric(cause).await.unwrap();
            if held >= ACCOUNTS as f64 {
                break;
            }
        }
        assert!(held >= ACCOUNTS as f64, "{held} mails are held");
        // What is dropped before all have begun is held anew.
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            let now = house.metric(cause).await.unwrap();
            if now == held {
                break;
            }
            held = now;
        }
        let told = server.until("sre@service.example", 1).await;
        assert!(
            told[0].subject().contains("ip-not-allowlisted"),
            "{}",
            told[0].subject()
        );
        let (code, text) = said(&notify(&house, &["held"]).await);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.starts_with("ip-not-allowlisted: "), "{text}");
        let (code, text) = said(&notify(&house, &["drop", "ip-not-allowlisted"]).await);
        assert!(code == Some(0) && text.contains("are removed"), "{text}");
        let (_, text) = said(&notify(&house, &["held"]).await);
        assert_eq!(text, "no mails are held\n");
        let (code, text) = said(&notify(&house, &["drop", "ip-not-allowlisted"]).await);
        assert!(
            code == Some(3) && text.contains("no mails are held"),
            "{text}"
        );
        let mails = server.mails();
        assert_eq!(mails.len(), 1, "0 to customers, 1 to operators: {mails:?}");
        let posted = hook.until(1).await;
        assert_eq!(posted.len(), 1, "{posted:?}");
        assert_eq!(
            [posted[0].field("kind"), posted[0].field("cause")],
            ["held", "ip-not-allowlisted"]
        );
        assert!(posted[0].body["account"].is_null(), "{posted:?}");
    })
    .await;
}

#[tokio::test]
async fn what_is_released_goes_to_each_customer_once() {
    // An odd number: addresses take turns, so each account is called from both.
    const ACCOUNTS: usize = 9;
    let (server, hook) = (Server::start(), Hook::start().await);
    house(plan(&server, &hook, ACCOUNTS), async |house| {
        translate(&house, ACCOUNTS);
        let held = "kintone_egress_mails{state=\"held\"}";
        for _ in 0..200 {
            call_all(&house, ACCOUNTS).await;
            if house.metric(held).await >= Some(2.0 * ACCOUNTS as f64) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let (code, text) = said(&notify(&house, &["release", "ip-not-allowlisted"]).await);
        assert_eq!(
            (code, text.as_str()),
            (Some(0), "18 mails of ip-not-allowlisted are being sent\n")
        );
        for number in 0..ACCOUNTS {
            // One for each of the two addresses.
            let told = server
                .until(&format!("a{number}@customer.example"), 2)
                .await;
            assert_eq!(told.len(), 2);
            assert!(told[0].body().contains(&name(number)));
        }
        assert_eq!(server.mails_to("sre@service.example").len(), 1);
    })
    .await;
}

/// Announced at its publication: to every contact once, and to operators.
#[tokio::test]
async fn a_planned_address_is_announced_once_with_the_line_and_the_day() {
    let (server, hook) = (Server::start(), Hook::start().await);
    let plan = Plan {
        addresses: r#"
[[egress.address]]
published = "18.177.83.94"
bind = "127.0.1.94"
[[egress.address]]
published = "203.0.113.7"
bind = "127.0.1.241"
state = "planned"
valid_from = 2199-03-01
"#
        .into(),
        ..plan(&server, &hook, 2)
    };
    house(plan, async |house| {
        for to in [
            "a0@customer.example",
            "a1@customer.example",
            "sre@service.example",
        ] {
            let mail = server.until(to, 1).await.remove(0);
            mail.check();
            assert_eq!(
                mail.subject(),
                "【要対応】kintone連携: 203.0.113.7/32 を追加してください"
            );
            for part in [
                "  203.0.113.7/32",
                "2199年3月1日 0:00",
                "From 1 March 2199 on",
            ] {
                assert!(mail.body().contains(part), "{part}: {}", mail.body());
            }
        }
        house.signals.send(Signal::Reload).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        assert_eq!(server.mails().len(), 3);
        let posted = hook.until(1).await;
        assert_eq!(posted.len(), 1, "{posted:?}");
        assert_eq!(
            [posted[0].field("kind"), posted[0].field("address")],
            ["announcement", "203.0.113.7"]
        );
    })
    .await;
}

#[tokio::test]
async fn a_test_arrives_and_a_preview_shows_what_people_get() {
    let (server, hook) = (Server::start(), Hook::start().await);
    house(plan(&server, &hook, 1), async |house| {
        let (code, text) = said(&notify(&house, &["test", "me@service.example"]).await);
        assert!(
            code == Some(0) && text.contains("has taken a mail"),
            "{text}"
        );
        let mail = server.until("me@service.example", 1).await.remove(0);
        mail.check();
        assert!(mail.subject().starts_with("【試験】"), "{}", mail.subject());
        let (code, text) = said(&notify(&house, &["test", "me@never.example"]).await);
        assert!(
            code == Some(1) && text.contains("no such mailbox"),
            "{text}"
        );
        let (code, text) = said(&notify(&house, &["preview"]).await);
        assert_eq!(code, Some(0));
        assert!(
            text.contains("Subject: 【要対応】kintone連携: 18.177.83.94/32 が"),
            "{text}"
        );
        let (code, _) = said(&notify(&house, &["preview", "--cause", "weather"]).await);
        assert_eq!(code, Some(1));
    })
    .await;
}
