//! Secrets in every place where a secret can be, through every way in and every failure that can be
//! made here, with the log at its most talkative: found nowhere in what the gateway shows.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use kintone_egress::config::token::hash_token;
use kintone_egress::tls::NewCa;
use kintone_sim::{Fault, FaultKind, TenantSettings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::Process;
use crate::support::caller::{Answer, Caller, exchange_raw, fetch_plain, record};
use crate::support::{ACME, BATCH_TOKEN, TOKEN};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1&secret=canary-query";

const TABLES: &str = r#"
[fleet]
host = "gw-a"
hosts = ["gw-a"]
redis = "redis://user:canary-redis@127.0.0.1:6379"
[notify]
smtp = "smtp://user:canary-smtp@127.0.0.1:2525"
from = "gateway@example.com"
operators = ["sre@example.com"]
[inspect]
ca_cert = "inspect.pem"
ca_key = { file = "ca-key" }
accounts = ["inspected.cybozu.com"]
callers = ["*"]
[admin]
token = "canary-admin-token"
[limits]
head_timeout = "500ms"
stall_timeout = "500ms"
handshake_timeout = "500ms"
[quota]
settle = "1s"
[log]
level = "trace"
access = "access.log"
[drain]
announce = "0s"
grace = "5s"
"#;

/// What the gateway itself said so far.
#[derive(Default)]
struct Said(String);

impl Said {
    /// An answer; of kintone's only the head, since its body is kintone's own.
    fn answer(&mut self, answer: &Answer) {
        let _ = writeln!(self.0, "{} {:?}", answer.reason, answer.headers);
        if answer.reason.starts_with("GW_") {
            let _ = writeln!(self.0, "{}", String::from_utf8_lossy(&answer.body));
        }
    }

    fn text(&mut self, text: &str) {
        let _ = writeln!(self.0, "{text}");
    }
}

/// A request with a secret in every place.
fn laden(
    caller: &Caller,
    method: Method,
    url: &str,
) -> Request<http_body_util::Full<bytes::Bytes>> {
    let body = if method == Method::GET {
        String::new()
    } else {
        record("canary-body")
    };
    let mut request = caller.request(method, url, body);
    for (name, value) in [
        ("authorization", "Basic canary-authorization"),
        ("x-cybozu-authorization", "canary-cybozu-authorization"),
        ("x-cybozu-api-token", "canary-api-token"),
        ("cookie", "session=canary-cookie"),
        ("referer", "https://acme.cybozu.com/?canary-referer"),
        ("x-own", "canary-own-header"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_ever_shown() {
    let ca = NewCa {
        name: "test CA".to_owned(),
        organization: None,
        zones: ["cybozu.com", "kintone.com", "cybozu.cn"]
            .map(String::from)
            .to_vec(),
        life: Duration::from_secs(365 * 24 * 3600),
    };
    let ca = ca.create(jiff::Timestamp::now()).unwrap();
    // Without the first line, which all keys have in common.
    let secret_lines: Vec<_> = ca
        .key
        .expose()
        .lines()
        .skip(1)
        .map(str::to_lowercase)
        .collect();
    let secret = secret_lines[0].as_str();
    let mut process = Process::start_with(TenantSettings::default(), TABLES, |folder| {
        std::fs::write(folder.join("inspect.pem"), &ca.certificate).unwrap();
        std::fs::write(folder.join("ca-key"), ca.key.expose()).unwrap();
    })
    .await;
    let mut said = Said::default();
    forward(&process, &mut said).await;
    refused(&process, &mut said).await;
    failures(&process, &mut said).await;
    raw(&process, &mut said).await;
    tunnels(&process, &mut said).await;
    operators(&process, &mut said).await;
    commands(&process, &mut said);
    // The control: what must not be shown was there to be shown.
    let ledger = process.sim.ledger();
    let at_kintone = format!("{:?}", ledger.executions);
    assert!(at_kintone.contains("canary-api-token") && at_kintone.contains("canary-query"));

    process.signal("TERM");
    process.ended().await;
    for file in ["stdout", "stderr", "access.log"] {
        said.text(&process.read(file));
    }
    let lines = process.read("access.log").lines().count();
    assert!(lines > 30, "only {lines} calls");
    let levels = ["\"INFO\"", "\"DEBUG\"", "\"ERROR\""];
    for level in levels {
        assert!(
            process.stderr().contains(level),
            "{level}: {}",
            process.stderr()
        );
    }
    for line in said.0.lines() {
        let lower = line.to_ascii_lowercase();
        assert!(!lower.contains("canary"), "a secret: {line}");
        assert!(!lower.contains(secret), "the authority's key: {line}");
        for coded in coded() {
            assert!(!line.contains(&coded), "a secret, coded as {coded}: {line}");
        }
    }
}

/// The secrets in the other forms in which they travel or are kept.
fn coded() -> Vec<String> {
    let pairs = ["events", "events+company-1", "nobody", "nightly"]
        .iter()
        .flat_map(|user| {
            [TOKEN, BATCH_TOKEN, "canary-wrong"]
                .map(|token| STANDARD.encode(format!("{user}:{token}")))
        });
    let hashes = [TOKEN, BATCH_TOKEN].map(|token| hash_token(token.as_bytes()).to_hex());
    pairs
        .chain(hashes)
        .chain([STANDARD.encode("canary")[..8].to_owned()])
        .collect()
}

async fn forward(process: &Process, said: &mut Said) {
    let caller = process.caller_as("events+company-1", TOKEN);
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        let answer = caller.send(laden(&caller, method, RECORDS)).await.unwrap();
        said.answer(&answer);
    }
    let odd = "https://acme.cybozu.com/k/v1/canary-path.json";
    let answer = caller.send(laden(&caller, Method::GET, odd)).await;
    said.answer(&answer.unwrap());
}

/// Every refusal that a request by itself can bring about.
async fn refused(process: &Process, said: &mut Said) {
    let caller = process.caller();
    for (url, who) in [
        (RECORDS, process.caller_as("events", "canary-wrong")),
        (RECORDS, process.caller_as("nobody", "canary-wrong")),
        (RECORDS, process.caller_as("canary-user", TOKEN)),
        (RECORDS, process.caller_as("events+canary tenant", TOKEN)),
        (RECORDS, process.caller_as("events;canary=1", TOKEN)),
        (RECORDS, caller.clone().without_credentials()),
        ("https://www.example.com/?canary", caller.clone()),
        ("https://acme.cybozu.com:8443/?canary", caller.clone()),
        ("https://acme.s.cybozu.com/?canary", caller.clone()),
    ] {
        let answer = who.send(laden(&who, Method::POST, url)).await.unwrap();
        assert!(answer.reason.starts_with("GW_"), "{url}: {answer:?}");
        said.answer(&answer);
    }
    for name in ["tenant", "priority", "max-wait-ms", "purpose"] {
        let mut request = laden(&caller, Method::GET, RECORDS);
        let name = http::HeaderName::try_from(format!("kintone-egress-{name}")).unwrap();
        request
            .headers_mut()
            .insert(name, "canary value!".parse().unwrap());
        said.answer(&caller.send(request).await.unwrap());
    }
}

/// Every failure on the way to kintone and back.
async fn failures(process: &Process, said: &mut Said) {
    let caller = process.caller();
    let json = |status, code: &str| FaultKind::Json {
        status,
        code: code.into(),
        message: "no".into(),
    };
    for kind in [
        FaultKind::ResetAfterExecuting,
        FaultKind::ResetBeforeAnswer,
        FaultKind::Unavailable,
        FaultKind::Overload,
        FaultKind::TooManyRequests,
        FaultKind::Garbage,
        FaultKind::HalfBodyThenReset,
        FaultKind::RedirectToLogin,
        FaultKind::HtmlPage,
        json(520, "CB_NO02"),
        json(401, "CB_AU01"),
        json(400, "CB_VA01"),
        FaultKind::TlsWrongName,
        FaultKind::TlsExpired,
        FaultKind::TlsUntrusted,
        FaultKind::TlsAlert,
        FaultKind::TlsReset,
    ] {
        for method in [Method::GET, Method::POST] {
            process.sim.fault(Fault::once(kind.clone()));
            // A name of its own, so that the connection is a new one.
            let url = format!(
                "https://{}.cybozu.com/k/v1/record.json?canary",
                kind.name().replace('_', "-")
            );
            if let Ok(answer) = caller.send(laden(&caller, method, &url)).await {
                said.answer(&answer);
            }
            process.sim.clear_faults();
        }
    }
    process.sim.clear_faults();
    // A caller that leaves in the middle of its body, and one that stalls there.
    for pause in [Duration::from_millis(20), Duration::from_millis(900)] {
        let mut stream = TcpStream::connect(process.proxy).await.unwrap();
        let pair = STANDARD.encode(format!("events:{TOKEN}"));
        let head = format!(
            "POST https://acme.cybozu.com/k/v1/record.json?canary HTTP/1.1\r\nHost: acme.cybozu.com\r\n\
             Proxy-Authorization: Basic {pair}\r\nContent-Length: 100000\r\n\r\n{{\"canary"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(pause).await;
    }
}

/// Heads that nobody can read.
async fn raw(process: &Process, said: &mut Said) {
    let pair = STANDARD.encode(format!("events:{TOKEN}"));
    let authorization = format!("Proxy-Authorization: Basic {pair}\r\n");
    let long = "canary-long".repeat(8000);
    for head in [
        format!("GET https://u:canary-userinfo@acme.cybozu.com/ HTTP/1.1\r\nHost: x\r\n{authorization}\r\n"),
        format!("GET https://acme.cybozu.com/#canary-fragment HTTP/1.1\r\nHost: x\r\n{authorization}\r\n"),
        format!("GET https://acme.cybozu.com/ canary-junk HTTP/1.1\r\nHost: x\r\n{authorization}\r\n"),
        format!("GET /canary-path?canary HTTP/1.1\r\nHost: x\r\n{authorization}\r\n"),
        format!("GET https://acme.cybozu.com/ HTTP/1.1\r\nHost: canary host\r\n{authorization}\r\n"),
        format!("GET https://acme.cybozu.com/ HTTP/1.1\r\n{authorization}\r\n"),
        format!("CANARY-METHOD\u{1} https://acme.cybozu.com/ HTTP/1.1\r\nHost: x\r\n{authorization}\r\n"),
        format!("GET https://acme.cybozu.com/ HTTP/1.1\r\nHost: x\r\nX: \u{1}canary\r\n{authorization}\r\n"),
        format!("GET https://acme.cybozu.com/ HTTP/1.1\r\nHost: x\r\n{authorization}{authorization}\r\n"),
        format!("GET https://acme.cybozu.com/{long} HTTP/1.1\r\nHost: x\r\n{authorization}\r\n"),
        format!("GET https://acme.cybozu.com/ HTTP/1.1\r\nHost: x\r\nX: {long}\r\n{authorization}\r\n"),
        "GET https://acme.cybozu.com/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer canary-bearer\r\n\r\n".into(),
        "GET https://acme.cybozu.com/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic %canary%\r\n\r\n".into(),
        "GET /.kintone-egress/canary-page?canary HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        format!("TRACE https://acme.cybozu.com/?canary HTTP/1.1\r\nHost: x\r\n{authorization}\r\n"),
        "canary-garbage canary-garbage canary-garbage\r\n\r\n".into(),
        "\u{16}\u{3}\u{1}canary-tls\r\n\r\n".into(),
    ] {
        let head = head.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
        said.text(&exchange_raw(process.proxy, head.as_bytes()).await);
    }
    // A head that never ends.
    let mut stream = TcpStream::connect(process.proxy).await.unwrap();
    stream
        .write_all(
            format!("GET https://acme.cybozu.com/?canary HTTP/1.1\r\n{authorization}").as_bytes(),
        )
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    said.text(&String::from_utf8_lossy(&answer));
    let me = format!(
        "GET /.kintone-egress/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n"
    );
    let me = exchange_raw(process.proxy, me.as_bytes()).await;
    assert!(
        me.contains("GW_BAD_REQUEST") || me.contains("refusals"),
        "{me}"
    );
    said.text(&me);
}

async fn tunnels(process: &Process, said: &mut Said) {
    let caller = process.caller();
    let mut tunnel = caller.tunnel(ACME).await.unwrap();
    let mut inner = Caller::inner(
        Method::POST,
        ACME,
        "/k/v1/record.json?canary",
        record("canary-inner"),
    );
    inner
        .headers_mut()
        .insert("cookie", "canary-inner-cookie".parse().unwrap());
    let answer = crate::support::caller::read(tunnel.send_request(inner).await.unwrap()).await;
    answer.unwrap();
    for head in [
        "CONNECT www.example.com:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {auth}\r\nCookie: canary\r\n\r\n",
        "CONNECT u:canary@acme.cybozu.com:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {auth}\r\n\r\n",
        "CONNECT acme.cybozu.com:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic canary\r\n\r\n",
        "CONNECT acme.cybozu.com HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {auth}\r\nX: canary\r\n\r\n",
    ] {
        said.answer(&caller.open_tunnel_by(head).await.unwrap_err());
    }
    // Not TLS, another name in the ClientHello, and nothing at all.
    let mut plain = caller.open_tunnel(ACME).await.unwrap();
    plain
        .write_all(b"GET /?canary-plain HTTP/1.1\r\nCookie: canary\r\n\r\n")
        .await
        .unwrap();
    let _ = plain.read_to_end(&mut Vec::new()).await;
    let strange = caller.open_tunnel(ACME).await.unwrap();
    assert!(caller.tls(strange, "canary-sni.cybozu.com").await.is_err());
    let mut silent = caller.open_tunnel(ACME).await.unwrap();
    let _ = silent.read_to_end(&mut Vec::new()).await;
}

/// The admin listener, with right and wrong tokens, and with files that hold secrets where none
/// belong.
async fn operators(process: &Process, said: &mut Said) {
    for token in [None, Some("canary-wrong"), Some("canary-admin-token")] {
        for (method, path) in [("POST", "/api/v1/reload"), ("DELETE", "/api/v1/drain")] {
            let answer = process.order(method, path, token).await;
            said.text(&format!(
                "{} {:?} {}",
                answer.status,
                answer.headers,
                String::from_utf8_lossy(&answer.body)
            ));
        }
    }
    let head = "GET /api/v1/config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: canary\r\n\
                Authorization: Bearer canary-admin-token\r\n";
    said.text(&exchange_raw(process.admin, format!("{head}\r\n").as_bytes()).await);
    said.text(
        &exchange_raw(
            process.admin,
            format!("{head}Origin: https://canary\r\n\r\n").as_bytes(),
        )
        .await,
    );
    for (from, to) in [
        (
            "token = \"canary-admin-token\"",
            "token = \"canary-unclosed",
        ),
        (
            "token = \"canary-admin-token\"",
            "token = [\"canary-list\"]",
        ),
        (
            "token = \"canary-admin-token\"",
            "token = \"canary with blanks\"",
        ),
        ("token = \"canary-admin-token\"", "token = canary-bare"),
        ("redis = \"redis://", "redis = \"http://"),
        ("smtp = \"smtp://", "smtp = \"canary://"),
        (
            "ca_key = { file = \"ca-key\" }",
            "ca_key = { path = \"canary-key\" }",
        ),
        (
            "[[caller]]\nname = \"events\"",
            "[[caller]]\nname = \"raw\"\ntoken_sha256 = \"canary-raw-token\"\n[[caller]]\nname = \"events\"",
        ),
    ] {
        let wrong = process.config.replacen(from, to, 1);
        assert_ne!(wrong, process.config, "{from}");
        process.write_config(&wrong);
        let answer = process
            .order("POST", "/api/v1/reload", Some("canary-admin-token"))
            .await;
        assert_eq!(answer.status, 422, "{to}: {answer:?}");
        said.text(&String::from_utf8_lossy(&answer.body));
        said.text(&String::from_utf8_lossy(&process.run(&["check"]).stdout));
    }
    process.write_config(&process.config);
    for path in [
        "/metrics",
        "/",
        "/readyz",
        "/healthz",
        "/api/v1/config",
        "/api/v1/accounts",
        "/api/v1/accounts/acme.cybozu.com",
        "/api/v1/addresses",
        "/api/v1/requests",
        "/api/v1/accounts?q=canary&limit=canary",
        "/api/v1/requests?older_than=canary",
        "/api/v1/nothing?canary",
    ] {
        said.text(&fetch_plain(process.admin, path).await.1);
        said.text(&fetch_plain(process.metrics, path).await.1);
    }
}

fn commands(process: &Process, said: &mut Said) {
    for arguments in [
        &["check"][..],
        &["check", "--print"],
        &["explain", "--as", "events+company-1", "GET", RECORDS],
        &["explain", "--as", "events:canary-token", "GET", RECORDS],
        &[
            "explain",
            "--as",
            "events",
            "GET",
            "https://u:canary@acme.cybozu.com/?canary",
        ],
        &[
            "explain",
            "--as",
            "events",
            "--mode",
            "tunnel",
            "GET",
            "https://u:canary@acme.cybozu.com/",
        ],
        &[
            "explain",
            "--as",
            "events",
            "--tenant",
            "canary tenant",
            "CONNECT",
            "acme.cybozu.com:443",
        ],
        &[
            "explain",
            "--as",
            "events",
            "GET",
            "https://acme.cybozu.com/#canary",
        ],
    ] {
        let output = process.run(arguments);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
        said.text(&String::from_utf8_lossy(&output.stdout));
        said.text(&String::from_utf8_lossy(&output.stderr));
    }
}
