//! Two hosts of a fleet: people are told by one of them.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::time::{Instant, sleep};

use crate::hook::Hook;
use crate::pair::{Host, Pair, Wish};
use crate::server::Server;
use crate::store::Store;
use crate::support::API_TOKEN;

const CONTACT: &str = "admin@acme.example";
const OPERATOR: &str = "sre@service.example";

fn wish(store: &Store, server: &Server, hook: &Hook) -> Wish {
    let contacts = "[account.\"acme.cybozu.com\"]\ncontacts = [\"admin@acme.example\"]\n";
    Wish {
        fleet: format!(
            "side_every = \"2s\"\n{}{contacts}",
            server.table("3s", &hook.key())
        ),
        ..Wish::new(store.url())
    }
}

/// One call, with a token that kintone takes or does not.
async fn call(host: &Host, token: &'static str) {
    let caller = host.caller();
    let url = "https://acme.cybozu.com/k/v1/records.json?app=1";
    let mut request = caller.request(Method::GET, url, Bytes::new());
    let token = http::HeaderValue::from_static(token);
    request.headers_mut().insert("x-cybozu-api-token", token);
    caller.send(request).await.unwrap();
    sleep(Duration::from_millis(50)).await;
}

/// Calls by each host until the contact has so many mails.
async fn call_until(hosts: &[&Host], token: &'static str, server: &Server, mails: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.mails_to(CONTACT).len() < mails {
        assert!(Instant::now() < deadline, "{:?}", server.mails());
        for host in hosts {
            call(host, token).await;
        }
    }
}

#[tokio::test]
async fn what_both_hosts_see_is_told_once() {
    let (store, server) = (Store::start(&[]), Server::start());
    let hook = Hook::start().await;
    let pair = Pair::new(wish(&store, &server, &hook)).await;
    let (first, second) = (pair.start("gw-a"), pair.start("gw-b"));
    call_until(&[&first, &second], "wrong-token", &server, 1).await;
    call_until(&[&first, &second], API_TOKEN, &server, 2).await;
    // Long enough for the other host to tell as well, if it did.
    sleep(Duration::from_secs(8)).await;
    for to in [CONTACT, OPERATOR] {
        let told = server.until(to, 2).await;
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[1].header("In-Reply-To"), told[0].header("Message-ID"));
        assert!(told[1].subject().starts_with("【復旧】"));
    }
    let posted = hook.taken();
    assert_eq!(posted.len(), 2, "{posted:?}");
    assert_eq!(posted[0].field("reference"), posted[1].field("reference"));
    first.leave().await;
    second.leave().await;
    pair.check();
}

#[tokio::test]
async fn one_host_tells_of_what_another_saw_and_that_one_of_the_end_when_the_first_is_gone() {
    let (store, server) = (Store::start(&[]), Server::start());
    let hook = Hook::start().await;
    let pair = Pair::new(wish(&store, &server, &hook)).await;
    let (first, second) = (pair.start("gw-a"), pair.start("gw-b"));
    call_until(&[&second], "wrong-token", &server, 1).await;
    server.until(OPERATOR, 1).await;
    let sent = "kintone_egress_mails_total{result=\"sent\"}";
    assert_eq!(second.metric(sent).await, Some(0.0), "gw-a leads");
    first.leave().await;
    // Four rounds in which it says nothing.
    for _ in 0..220 {
        call(&second, "wrong-token").await;
    }
    assert_eq!(server.mails().len(), 2, "a new leader tells nobody again");
    call_until(&[&second], API_TOKEN, &server, 2).await;
    let told = server.mails_to(CONTACT);
    assert_eq!(told[1].header("In-Reply-To"), told[0].header("Message-ID"));
    second.leave().await;
    pair.check();
}
