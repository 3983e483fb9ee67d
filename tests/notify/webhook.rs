//! What operators are told is posted to their webhook too.

use std::sync::Arc;
use std::time::Duration;

use kintone_sim::TenantSettings;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use crate::episodes::{call_until, half, plan, plan_of};
use crate::hook::{Hook, SECRET_PATH};
use crate::server::Server;
use crate::support::program::{ask_house, said};
use crate::support::{ACME, House, house};

const GIVEN_UP: &str = "kintone_egress_webhook_messages_total{result=\"given_up\"}";

async fn until_metric(house: &House, sample: &str, expected: f64) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    while house.metric(sample).await != Some(expected) {
        assert!(tokio::time::Instant::now() < deadline, "{sample}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// No page shows where it is.
async fn check_secret(house: &House) {
    let (_, config) = house.admin_page("/api/v1/config").await;
    for text in [config, house.output.text()] {
        assert!(!text.contains(SECRET_PATH), "{text}");
    }
}

#[tokio::test]
async fn a_webhook_alone_is_told_of_the_beginning_and_of_the_end() {
    let hook = Hook::start().await;
    house(plan_of(hook.table(""), half()), async |house| {
        call_until(&house, || !hook.taken().is_empty()).await;
        house.sim.tenant(ACME, TenantSettings::default());
        call_until(&house, || hook.taken().len() > 1).await;
        let posted = hook.posted();
        assert_eq!(posted.len(), 2, "{posted:?}");
        let [begin, end] = [&posted[0], &posted[1]];
        assert_eq!([begin.field("kind"), end.field("kind")], ["begin", "end"]);
        assert_ne!(begin.id, end.id);
        for one in [begin, end] {
            for (name, expected) in [
                ("reference", begin.field("reference")),
                ("since", begin.field("since")),
                ("cause", "ip-not-allowlisted"),
                ("account", ACME),
                ("address", "18.177.83.94"),
            ] {
                assert_eq!(one.field(name), expected, "{name}: {one:?}");
            }
            assert!(one.field("text").contains(begin.field("reference")));
            assert!(one.body["tenant"].is_null());
        }
        assert!(begin.body["until"].is_null());
        let moment = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        assert!(moment(end.field("until")) > moment(end.field("since")));
        assert!(begin.field("subject").starts_with("【要対応】"));
        assert!(end.field("subject").starts_with("【復旧】"));
        // Customers have no webhook, and nobody wrote to them.
        assert!(begin.field("text").contains("no customer was told"));
        check_secret(&house).await;
    })
    .await;
}

#[tokio::test]
async fn a_tenant_is_named_and_neither_way_waits_for_the_other() {
    let hook = Hook::start().await;
    let mut server = Server::stopped();
    let plan = plan(&server, &hook.key(), TenantSettings::default());
    house(plan, async |house| {
        let caller = house.caller_as("events+one", crate::support::TOKEN);
        let url = "https://acme.cybozu.com/k/v1/records.json?app=1";
        for _ in 0..600 {
            if !hook.taken().is_empty() {
                break;
            }
            let mut request = caller.request(http::Method::GET, url, bytes::Bytes::new());
            let token = http::HeaderValue::from_static("wrong-token");
            request.headers_mut().insert("x-cybozu-api-token", token);
            caller.send(request).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let told = hook.until(1).await.remove(0);
        assert_eq!(
            [told.field("tenant"), told.field("cause")],
            ["one", "authentication"]
        );
        let queued = "kintone_egress_mails{state=\"queued\"}";
        assert_eq!(house.metric(queued).await, Some(2.0), "the mails wait");
        server.resume();
        let mail = server.until("sre@service.example", 1).await.remove(0);
        assert_eq!(mail.reference(), told.field("reference"));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_taken_comes_again_under_its_identifier_and_before_the_end() {
    let hook = Hook::start().await;
    hook.answer_first(&[503, 500, 408, 429, 404]);
    house(plan_of(hook.table(""), half()), async |house| {
        call_until(&house, || !hook.posted().is_empty()).await;
        house.sim.tenant(ACME, TenantSettings::default());
        call_until(&house, || hook.taken().len() > 1).await;
        let posted = hook.posted();
        let kinds: Vec<_> = posted.iter().map(|one| one.field("kind")).collect();
        assert_eq!(
            kinds,
            ["begin", "begin", "begin", "begin", "begin", "begin", "end"]
        );
        assert!(posted[..6].iter().all(|one| one.id == posted[0].id));
        assert!(posted[..6].iter().all(|one| one.body == posted[0].body));
        until_metric(
            &house,
            "kintone_egress_webhook_messages_total{result=\"sent\"}",
            2.0,
        )
        .await;
        assert_eq!(house.metric(GIVEN_UP).await, Some(0.0));
    })
    .await;
}

#[tokio::test]
async fn a_webhook_that_asks_to_wait_is_left_alone_for_so_long() {
    let hook = Hook::start().await;
    hook.answer_first(&[429]);
    hook.ask_to_wait("4");
    let table = hook
        .table("")
        .replace("retry_max = \"1s\"", "retry_max = \"10s\"");
    house(plan_of(table, half()), async |house| {
        call_until(&house, || hook.posted().len() > 1).await;
        let posted = hook.posted();
        let waited = posted[1].at - posted[0].at;
        assert_eq!(posted[0].id, posted[1].id);
        assert!(waited >= Duration::from_secs(4), "{waited:?}");
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_ten_times_is_given_up_and_kept() {
    let hook = Hook::start().await;
    hook.answer_always(404);
    house(plan_of(hook.table(""), half()), async |house| {
        call_until(&house, || !hook.posted().is_empty()).await;
        until_metric(&house, GIVEN_UP, 1.0).await;
        assert_eq!(hook.posted().len(), 10);
        let dead = "kintone_egress_webhook_messages{state=\"dead\"}";
        assert_eq!(house.metric(dead).await, Some(1.0));
        let folder = house.config_path.with_file_name("state").join("mail/dead");
        let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap();
        let kept = std::fs::read_to_string(file.path()).unwrap();
        assert!(kept.contains("\"to\":\"webhook\""), "{kept}");
        assert!(!kept.contains(SECRET_PATH), "{kept}");
    })
    .await;
}

#[tokio::test]
async fn a_test_is_posted_over_tls_that_is_verified() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let hook = Hook::start_tls(TlsAcceptor::from(Arc::new(tls))).await;
    let table = format!(
        "[notify]\nwebhook = \"https://localhost:{}{SECRET_PATH}?a=b\"\nca_file = \"hook.pem\"\n",
        hook.port()
    );
    house(plan_of(table, TenantSettings::default()), async |house| {
        let anchor = house.config_path.with_file_name("hook.pem");
        std::fs::write(&anchor, key.cert.pem()).unwrap();
        let test = async || {
            let output = ask_house(&house, &["notify", "test"], &["--webhook"]).await;
            let everything = [output.stdout.as_slice(), &output.stderr].concat();
            assert!(!String::from_utf8_lossy(&everything).contains(SECRET_PATH));
            said(&output)
        };
        let (code, text) = test().await;
        assert!(code == Some(0) && text.contains("has taken"), "{text}");
        let told = hook.until(1).await.remove(0);
        assert_eq!(told.field("kind"), "test");
        assert!(told.field("subject").starts_with("【試験】"));
        let doctor = async || said(&ask_house(&house, &["doctor"], &[]).await).1;
        let well = doctor().await;
        assert!(
            well.contains("ok      webhook ([notify] webhook): answers"),
            "{well}"
        );
        hook.answer_always(403);
        let (code, text) = test().await;
        assert!(code == Some(1) && text.contains("status 403"), "{text}");
        std::fs::write(&anchor, house.sim.ca_pem()).unwrap();
        let (code, text) = test().await;
        assert!(code == Some(1) && text.contains("certificate"), "{text}");
        let finding = doctor().await;
        let line = format!(
            "FINDING webhook ([notify] webhook): localhost:{}: ",
            hook.port()
        );
        assert!(finding.contains(&line), "{finding}");
        assert!(!finding.contains(SECRET_PATH), "{finding}");
        assert_eq!(hook.posted().len(), 2, "doctor tells nobody anything");
    })
    .await;
}
