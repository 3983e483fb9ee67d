//! Episodes that are open when the gateway is killed go on in the next process: none is told again, and
//! each ends once.

use bytes::Bytes;
use http::{HeaderValue, Method};
use kintone_sim::TenantSettings;
use tokio::time::{Duration, Instant, sleep};

use crate::episodes::plan;
use crate::hook::{Hook, SECRET_PATH};
use crate::server::{PASSWORD, Server};
use crate::site::Site;
use crate::support::API_TOKEN;
use crate::support::caller::fetch_plain;

const CONTACT: &str = "admin@acme.example";
const OPERATOR: &str = "sre@service.example";

/// Longer than `begins_after` and `ends_after` of these tests together: whatever is told again would be.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// One call, with a token that kintone takes or does not.
async fn call(site: &Site, token: &'static str) {
    let caller = site.caller();
    let url = "https://acme.cybozu.com/k/v1/records.json?app=1";
    let mut request = caller.request(Method::GET, url, Bytes::new());
    let token = HeaderValue::from_static(token);
    request.headers_mut().insert("x-cybozu-api-token", token);
    caller.send(request).await.unwrap();
    sleep(Duration::from_millis(50)).await;
}

async fn call_until(site: &Site, token: &'static str, mut enough: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !enough().await {
        assert!(Instant::now() < deadline, "it never happens");
        call(site, token).await;
    }
}

async fn call_for_long(site: &Site, token: &'static str) {
    let end = Instant::now() + LONG_ENOUGH;
    while Instant::now() < end {
        call(site, token).await;
    }
}

async fn metric(site: &Site, sample: &str) -> f64 {
    let (_, text) = fetch_plain(site.admin, "/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(sample));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

/// What everybody was told, each as `begin` or `end` and the number of the episode.
fn told(server: &Server, hook: &Hook) -> [Vec<(String, String)>; 3] {
    let mails = |to| {
        let mails = server.mails_to(to).into_iter();
        let kind = |mail: &crate::server::Mail| match mail.subject().starts_with("【復旧】") {
            true => "end".to_owned(),
            false => "begin".to_owned(),
        };
        mails
            .map(|mail| (kind(&mail), mail.reference().to_owned()))
            .collect()
    };
    let posted = hook.taken().into_iter();
    let posted = posted.map(|one| (one.field("kind").into(), one.field("reference").into()));
    [mails(CONTACT), mails(OPERATOR), posted.collect()]
}

fn check_secrets(site: &Site) {
    let said = site.said();
    for secret in [SECRET_PATH, PASSWORD, "p@ss:w/rd"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn an_open_episode_outlives_a_kill_and_ends_once_under_its_number() {
    let (server, hook) = (Server::start(), Hook::start().await);
    let site = Site::new(&plan(&server, &hook.key(), TenantSettings::default())).await;
    let process = site.start();
    site.until_serving().await;
    let everybody = |count: usize| {
        let told = told(&server, &hook);
        told.iter().all(|told| told.len() >= count)
    };
    call_until(&site, "wrong-token", async || everybody(1)).await;
    let number = hook.taken()[0].field("reference").to_owned();
    process.kill();
    let process = site.start();
    site.until_serving().await;
    call_for_long(&site, "wrong-token").await;
    let begin = ("begin".to_owned(), number.clone());
    for told in told(&server, &hook) {
        assert_eq!(told, std::slice::from_ref(&begin), "nobody is told again");
    }
    call_until(&site, API_TOKEN, async || everybody(2)).await;
    call_for_long(&site, API_TOKEN).await;
    let end = ("end".to_owned(), number);
    for told in told(&server, &hook) {
        assert_eq!(told, [begin.clone(), end.clone()]);
    }
    let ends = server.mails_to(CONTACT);
    assert_eq!(ends[1].header("In-Reply-To"), ends[0].header("Message-ID"));
    assert!(process.drain().success());
    check_secrets(&site);
}

#[tokio::test]
async fn what_waits_for_servers_that_are_away_outlives_kills_too() {
    let (mut server, mut hook) = (Server::stopped(), Hook::stopped().await);
    let more = format!("retry_max = \"1s\"\n{}", hook.key());
    let site = Site::new(&plan(&server, &more, TenantSettings::default())).await;
    let queued = async |mails: f64, posts: f64| {
        metric(&site, "kintone_egress_mails{state=\"queued\"}").await >= mails
            && metric(&site, "kintone_egress_webhook_messages{state=\"queued\"}").await >= posts
    };
    let process = site.start();
    site.until_serving().await;
    call_until(&site, "wrong-token", async || queued(2.0, 1.0).await).await;
    // Once tried, a beginning is not taken back by its end.
    call_for_long(&site, "wrong-token").await;
    process.kill();
    let process = site.start();
    site.until_serving().await;
    assert!(queued(2.0, 1.0).await, "all are in the spool");
    call_until(&site, API_TOKEN, async || queued(4.0, 2.0).await).await;
    process.kill();
    let process = site.start();
    site.until_serving().await;
    server.resume();
    hook.resume().await;
    server.until(CONTACT, 2).await;
    server.until(OPERATOR, 2).await;
    hook.until(2).await;
    call_for_long(&site, API_TOKEN).await;
    for told in told(&server, &hook) {
        let kinds: Vec<_> = told.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["begin", "end"]);
        assert_eq!(told[0].1, told[1].1);
    }
    assert!(process.drain().success());
    check_secrets(&site);
}
