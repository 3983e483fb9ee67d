//! Each kind of refusal, and how it shows in a client.

use std::path::PathBuf;

use serde_json::Value;

use super::client::{Client, Mode, Shows};
use super::process::{Errand, Process};
use super::support::caller::{Answer, ask_raw};
use super::support::{ACME, House, TOKEN};

/// Token of the caller `limited`, who may only reach `other.cybozu.com`.
pub(crate) const LIMITED_TOKEN: &str = "canary-limited-token-77d0";

/// A refusal that a client is made to meet.
pub(crate) struct Case {
    pub(crate) code: &'static str,
    pub(crate) status: u16,
    user: &'static str,
    token: &'static str,
    host: &'static str,
    stage: Stage,
}

/// When the gateway refuses a client that asks for `CONNECT` and is then inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Already the `CONNECT`.
    Connect,
    /// A call.
    Call,
}

const fn case(code: &'static str, status: u16, host: &'static str, stage: Stage) -> Case {
    Case {
        code,
        status,
        user: "events",
        token: TOKEN,
        host,
        stage,
    }
}

/// Those that need nothing but the configuration of `scene`.
pub(crate) const CASES: &[Case] = &[
    Case {
        token: "mistyped",
        ..case("GW_AUTHENTICATION_REQUIRED", 407, ACME, Stage::Connect)
    },
    case(
        "GW_DESTINATION_FORBIDDEN",
        403,
        "kintone.example.com",
        Stage::Connect,
    ),
    Case {
        user: "limited",
        token: LIMITED_TOKEN,
        ..case("GW_CALLER_FORBIDDEN", 403, ACME, Stage::Connect)
    },
    case("GW_RATE_LIMITED", 429, "paced.cybozu.com", Stage::Call),
    case("GW_QUEUE_FULL", 429, "full.cybozu.com", Stage::Call),
    case("GW_WAIT_EXCEEDED", 429, "slow.cybozu.com", Stage::Call),
    case("GW_UPSTREAM_CONNECT", 502, "closed.cybozu.com", Stage::Call),
];

/// kintone's certificate is not trusted: the gateway's to see where TLS to kintone is its own.
pub(crate) const DISTRUSTED: Case = case("GW_UPSTREAM_TLS", 502, "forged.cybozu.com", Stage::Call);

/// The last one: the gateway ends while the call waits.
pub(crate) const DRAINED: Case = case("GW_DRAINING", 503, "busy.cybozu.com", Stage::Call);

impl Case {
    /// What the client is to do.
    pub(crate) fn errand(&self) -> Errand {
        Errand {
            what: "read",
            user: self.user,
            token: self.token,
            host: self.host,
            title: "",
            file: PathBuf::new(),
        }
    }

    /// What of it the client must show.
    pub(crate) fn shows(&self, client: &Client, mode: Mode) -> Shows {
        if let (407, Some(shows)) = (self.status, client.of_407) {
            return shows;
        }
        let of_connect = !mode.sees_calls() || (mode.connects() && self.stage == Stage::Connect);
        if of_connect {
            client.of_connect
        } else {
            client.of_call
        }
    }
}

/// Makes a client meet a refusal; what it showed.
pub(crate) async fn meet(
    house: &House,
    case: &Case,
    client: &Client,
    mode: Mode,
    process: &mut Process,
) -> Shows {
    let said = process.run(&case.errand()).await;
    check(&said, case, client, mode);
    let shows = case.shows(client, mode);
    if shows == Shows::Code {
        return shows;
    }
    if case.status == 407 {
        // Whom the gateway does not know it tells nothing: the status says it all.
        assert!(text(&said).contains("407"), "{said}");
        return Shows::Status;
    }
    // What the client does not show, the gateway tells.
    let last = &me(house, case).await["refusals"][0];
    assert_eq!(last["code"], case.code, "{last}");
    if shows == Shows::Message {
        let message = last["message"].as_str().unwrap();
        assert!(text(&said).contains(message), "{message}: {said}");
    }
    shows
}

/// What the client said is what it must show.
pub(crate) fn check(said: &Value, case: &Case, client: &Client, mode: Mode) {
    assert_eq!(said["ok"], false, "{}: {said}", case.code);
    match case.shows(client, mode) {
        Shows::Code => assert!(text(said).contains(case.code), "{}: {said}", case.code),
        Shows::Status => {
            let status = case.status.to_string();
            assert!(text(said).contains(&status), "{}: {said}", case.code);
        }
        // Every sentence begins with the account that it is about.
        Shows::Message => assert!(text(said).contains(case.host), "{}: {said}", case.code),
    }
    if let Some(status) = said["status"].as_u64() {
        assert_eq!(status, u64::from(case.status), "{}: {said}", case.code);
    }
    if let Some(seconds) = said["retry_after"].as_str() {
        assert!(matches!(case.status, 429 | 503), "{}: {said}", case.code);
        let seconds: u64 = seconds.parse().unwrap();
        assert!((1..=60).contains(&seconds), "{}: {said}", case.code);
    }
}

fn text(said: &Value) -> &str {
    said["said"].as_str().unwrap_or_default()
}

/// What the gateway tells the caller of a case about itself.
async fn me(house: &House, case: &Case) -> Value {
    use base64::Engine as _;
    let login = format!("{}:{}", case.user, case.token);
    let basic = base64::engine::general_purpose::STANDARD.encode(login);
    let head = format!(
        "GET /.kintone-egress/me HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\
         Proxy-Authorization: Basic {basic}\r\n\r\n"
    );
    let answer: Answer = ask_raw(house.proxy, head.as_bytes()).await;
    answer.json()
}
