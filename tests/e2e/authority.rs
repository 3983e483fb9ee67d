//! The private authority as operators and callers meet it: made by the program, published, changed
//! without an outage, and taken by the strictest clients.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::{Method, StatusCode};
use kintone_sim::TenantSettings;

use crate::process::{Process, command};
use crate::support::caller::{Answer, Caller, ask_raw, read};
use crate::support::{ACME, API_TOKEN, TOKEN};

const INSPECT: &str = "accounts = [\"*\"]\ncallers = [\"*\"]\n";

/// `kintone-egress ca init --out FOLDER/NAME`.
fn init(folder: &Path, name: &str, more: &[&str]) -> Output {
    let out = folder.join(name);
    command(folder)
        .args(["ca", "init", "--out", out.to_str().unwrap()])
        .args(more)
        .output()
        .unwrap()
}

fn made(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = init(folder, name, &[]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    (
        folder.join(name).join("ca.pem"),
        folder.join(name).join("ca.key"),
    )
}

/// The gateway with the authority `now` of its folder.
async fn inspecting(more: &str) -> Process {
    let tables = format!("[inspect]\n{}{INSPECT}{more}", signing("now"));
    Process::start_with(TenantSettings::default(), &tables, |folder| {
        made(folder, "now");
        made(folder, "next");
    })
    .await
}

fn signing(name: &str) -> String {
    format!("ca_cert = \"{name}/ca.pem\"\nca_key = {{ file = \"{name}/ca.key\" }}\n")
}

/// One of the gateway's own pages, by these further header lines.
async fn own(process: &Process, page: &str, headers: &str) -> Answer {
    let head = format!(
        "GET /.kintone-egress/{page} HTTP/1.1\r\nHost: gw.example:3128\r\nConnection: close\r\n{headers}\r\n"
    );
    ask_raw(process.proxy, head.as_bytes()).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn an_authority_is_made_once_and_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = made(folder.path(), "a/b");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&key), 0o600);
    assert_eq!(mode(&certificate) & 0o444, 0o444, "callers are to have it");
    let before = [&certificate, &key].map(|path| std::fs::read(path).unwrap());
    let again = init(folder.path(), "a/b", &[]);
    assert_eq!(again.status.code(), Some(1));
    let said = text(&again.stderr);
    assert!(
        said.contains("ca.pem is there already") && said.contains("--out"),
        "{said}"
    );
    let after = [&certificate, &key].map(|path| std::fs::read(path).unwrap());
    assert_eq!(before, after);
    // The key alone is there: nothing is added to it.
    std::fs::remove_file(&certificate).unwrap();
    let half = init(folder.path(), "a/b", &[]);
    assert_eq!(half.status.code(), Some(1));
    assert!(text(&half.stderr).contains("ca.key is there already"));
    assert!(!certificate.exists());
    assert_eq!(std::fs::read(&key).unwrap(), before[1]);
}

#[test]
fn what_is_asked_of_an_authority_is_in_it_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let more = [
        "--name",
        "Acme CA",
        "--organization",
        "Acme 株式会社",
        "--zone",
        "cybozu.com",
        "--days",
        "10",
    ];
    let made = init(folder.path(), "own", &more);
    assert!(made.status.success(), "{made:?}");
    let said = text(&made.stdout);
    assert!(
        said.contains("below cybozu.com, and for nothing else"),
        "{said}"
    );
    assert!(
        said.contains("[inspect]") && said.contains("ca_key = { file = "),
        "{said}"
    );
    let shown = Command::new("openssl")
        .args([
            "x509",
            "-noout",
            "-subject",
            "-nameopt",
            "utf8",
            "-ext",
            "nameConstraints,basicConstraints",
        ])
        .arg("-in")
        .arg(folder.path().join("own/ca.pem"))
        .output()
        .expect("openssl is installed: tests/setup.sh");
    let shown = text(&shown.stdout);
    for part in [
        "Acme CA",
        "Acme 株式会社",
        "DNS:cybozu.com",
        "IP:0.0.0.0/0.0.0.0",
        "CA:TRUE, pathlen:0",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("kintone.com"));
    for (more, word) in [
        (["--zone", "com"], "is no domain"),
        (["--zone", "Cybozu.com"], "is no domain"),
        (["--zone", "*.cybozu.com"], "is no domain"),
        (["--name", ""], "1 to 64 characters"),
    ] {
        let refused = init(folder.path(), "other", &more);
        assert_eq!(refused.status.code(), Some(1), "{more:?}");
        assert!(text(&refused.stderr).contains(word), "{refused:?}");
        assert!(!folder.path().join("other/ca.key").exists());
    }
    assert_eq!(
        init(folder.path(), "other", &["--days", "0"]).status.code(),
        Some(2)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_find_what_to_trust_and_how() {
    let process = inspecting("ca_next = \"next/ca.pem\"\n").await;
    let page = own(&process, "ca.pem", "").await;
    assert_eq!(page.status, StatusCode::OK, "nobody has to say who asks");
    assert_eq!(page.header("content-type"), "application/x-pem-file");
    let pem = text(&page.body);
    let printed = command(&process.path("."))
        .args(["ca", "print", "--config"])
        .arg(process.path("gateway.toml"))
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    assert_eq!(text(&printed.stdout), pem);
    assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2);
    for name in ["now", "next"] {
        let file = process.read(&format!("{name}/ca.pem"));
        assert!(pem.contains(file.trim()), "{name}: as it is in its file");
        let fingerprint = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(process.path(&format!("{name}/ca.pem")))
            .output()
            .expect("openssl is installed: tests/setup.sh");
        let fingerprint = text(&fingerprint.stdout);
        let (_, fingerprint) = fingerprint.trim().split_once('=').unwrap();
        assert!(pem.contains(&format!("# SHA-256 {fingerprint}\n")), "{pem}");
    }
    let help = own(&process, "help", "Accept-Language: ja,en;q=0.5\r\n").await;
    assert_eq!(help.status, StatusCode::OK);
    assert_eq!(help.header("content-type"), "text/html;charset=utf-8");
    assert_eq!(help.header("vary"), "Accept-Language");
    let japanese = text(&help.body);
    assert!(
        japanese.contains("クライアントの設定")
            && japanese.contains("http://USER:TOKEN@gw.example:3128<")
    );
    let english = text(&own(&process, "help", "").await.body);
    assert!(english.contains("settings for clients") && english.contains("NODE_EXTRA_CA_CERTS"));
    let posted = b"POST /.kintone-egress/ca.pem HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(
        ask_raw(process.proxy, posted).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let (_, metrics) = process.page("/metrics").await;
    for ca in ["signing", "next"] {
        let sample = format!("inspect_ca_expiration_timestamp_seconds{{ca=\"{ca}\"}} ");
        assert!(metrics.contains(&sample), "{ca}");
    }
    let (_, shown) = process.page("/api/v1/config").await;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["inspect"]["ca_key"], "***");
    assert_eq!(shown["inspect"]["leaf_life"], "48h");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_authority_there_is_none_to_trust() {
    let process = Process::start(TenantSettings::default(), "").await;
    let page = own(&process, "ca.pem", "").await;
    assert_eq!(
        (page.status, page.code()),
        (StatusCode::NOT_FOUND, "GW_BAD_REQUEST".into())
    );
    let message = page.json()["message"].to_string();
    assert!(message.contains("[inspect] is off"), "{message}");
    let help = own(&process, "help", "").await;
    assert_eq!(help.status, StatusCode::OK);
    assert!(!text(&help.body).contains("ca.pem"));
    let printed = command(&process.path("."))
        .args(["ca", "print", "--config"])
        .arg(process.path("gateway.toml"))
        .output()
        .unwrap();
    assert_eq!(printed.status.code(), Some(1));
    assert!(text(&printed.stderr).contains("kintone-egress ca init"));
    let (_, metrics) = process.page("/metrics").await;
    assert!(!metrics.contains("inspect_ca_expiration_timestamp_seconds{"));
}

/// A caller of the gateway that trusts this PEM.
fn trusting(process: &Process, pem: &str) -> Caller {
    Caller::new(process.proxy, pem, "events", TOKEN)
}

/// A GET in an inspected connection of its own; `None` where the caller refuses the certificate.
async fn call(caller: &Caller) -> Option<StatusCode> {
    let tunnel = caller.open_tunnel(ACME).await.expect("granted");
    let tls = caller.tls(tunnel, ACME).await.ok()?;
    let mut sender = Caller::h1_over(tls).await;
    let request = Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "");
    let answer = read(sender.send_request(request).await.unwrap())
        .await
        .unwrap();
    Some(answer.status)
}

async fn reload(process: &Process, inspect: &str) {
    let (before, _) = process.config.split_once("[inspect]\n").unwrap();
    process.write_config(&format!("{before}[inspect]\n{inspect}{INSPECT}"));
    let answer = process.order("POST", "/api/v1/reload", None).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

/// Each step of "Changing the authority" (docs/inspect.md), with calls all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_changed_without_an_outage() {
    let process = inspecting("").await;
    let [old, new] = ["now", "next"].map(|name| process.read(&format!("{name}/ca.pem")));
    let ok = Some(StatusCode::OK);
    assert_eq!(call(&trusting(&process, &old)).await, ok);
    assert_eq!(call(&trusting(&process, &new)).await, None, "not yet");
    // One that was opened before and stays open.
    let kept = trusting(&process, &old);
    let mut kept = kept.h1(ACME).await.unwrap();

    // 1. Both are published, the old one signs.
    reload(&process, &(signing("now") + "ca_next = \"next/ca.pem\"\n")).await;
    let both = text(&own(&process, "ca.pem", "").await.body);
    assert_eq!(call(&trusting(&process, &old)).await, ok);
    // From here on this caller trusts both, and never notices anything.
    let (calls, over) = (
        Arc::new(AtomicU32::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let steady = {
        let (caller, calls, over) = (
            trusting(&process, &both),
            Arc::clone(&calls),
            Arc::clone(&over),
        );
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(call(&caller).await, Some(StatusCode::OK));
                calls.fetch_add(1, Ordering::Relaxed);
            }
        })
    };

    // 2. The new one signs, the old one is still published.
    reload(&process, &(signing("next") + "ca_next = \"now/ca.pem\"\n")).await;
    assert_eq!(call(&trusting(&process, &new)).await, ok);
    assert_eq!(
        call(&trusting(&process, &old)).await,
        None,
        "it was told too late"
    );
    let published = text(&own(&process, "ca.pem", "").await.body);
    assert_eq!(published.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(
        published.find(new.trim()) < published.find(old.trim()),
        "the one that signs first"
    );
    process
        .until("the gateway has told of it", |process| {
            process.read("stdout").contains("\"caller_distrusts_ca\"")
        })
        .await;

    // And back, should it have been too early; then for good.
    reload(&process, &(signing("now") + "ca_next = \"next/ca.pem\"\n")).await;
    assert_eq!(call(&trusting(&process, &old)).await, ok);
    reload(&process, &signing("next")).await;
    assert_eq!(call(&trusting(&process, &new)).await, ok);
    assert_eq!(call(&trusting(&process, &both)).await, ok);

    let request = Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "");
    let answer = kept
        .send_request(request)
        .await
        .expect("open since the beginning");
    assert_eq!(read(answer).await.unwrap().status, StatusCode::OK);
    let before = calls.load(Ordering::Relaxed);
    process
        .until("calls go on", |_| {
            calls.load(Ordering::Relaxed) > before + 3
        })
        .await;
    over.store(true, Ordering::Relaxed);
    steady.await.expect("no call failed");

    // A key that is not the certificate's is refused whole, and the old authority goes on.
    let wrong = signing("next").replace("next/ca.key", "now/ca.key");
    let (tables, _) = process.config.split_once("[inspect]\n").unwrap();
    process.write_config(&format!("{tables}[inspect]\n{wrong}{INSPECT}"));
    let answer = process.order("POST", "/api/v1/reload", None).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(text(&answer.body).contains("inspect.ca_key"), "{answer:?}");
    assert_eq!(call(&trusting(&process, &new)).await, ok);
}

/// Runs a client to its end; what it wrote, both streams.
fn client(
    folder: &Path,
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .envs(environment.iter().copied())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} ({error}): tests/setup.sh installs it"));
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

/// Strict as Python 3.13 and later are by default.
const STRICT_PYTHON: &str = r#"
import http.client, ssl, sys
host, port, authorization, token, cafile = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
context.verify_flags |= ssl.VERIFY_X509_STRICT | getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0)
connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
connection.set_tunnel("acme.cybozu.com", 443, {"Proxy-Authorization": authorization})
connection.request("GET", "/k/v1/records.json?app=1", headers={"X-Cybozu-API-Token": token})
print(connection.getresponse().status, connection.sock.version())
"#;

const NODE: &str = r#"
const [port, authorization] = process.argv.slice(1);
const connect = require("http").request({ port, method: "CONNECT", path: "acme.cybozu.com:443",
  headers: { "Proxy-Authorization": authorization } });
connect.on("connect", (_, socket) => {
  const tls = require("tls").connect({ socket, servername: "acme.cybozu.com" }, () => {
    console.log("authorized", tls.authorized);
    tls.destroy();
  });
});
connect.end();
"#;

/// The file that callers fetch, with both authorities and its comments, in the strictest clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_strictest_clients_take_leaf_and_authority() {
    let process = inspecting("ca_next = \"next/ca.pem\"\n").await;
    let page = own(&process, "ca.pem", "").await;
    std::fs::write(process.path("trust.pem"), &page.body).unwrap();
    let folder = process.path(".");
    let proxy = process.proxy.to_string();
    let port = process.proxy.port().to_string();
    let caller = process.caller();
    let authorization = caller.authorization().unwrap();
    let authorization = authorization.to_str().unwrap().to_owned();
    let run = move |program: &str, arguments: &[&str], environment: &[(&str, &str)]| {
        client(&folder, program, arguments, environment)
    };
    let url = format!("http://events:{TOKEN}@{proxy}");
    let strict = tokio::task::spawn_blocking(move || {
        // OpenSSL: the chain as it is shown, judged by every rule that it has.
        for version in ["-tls1_2", "-tls1_3"] {
            let (_, said) = run(
                "openssl",
                &[
                    "s_client",
                    "-proxy",
                    &proxy,
                    "-proxy_user",
                    "events",
                    "-proxy_pass",
                    &format!("pass:{TOKEN}"),
                    "-connect",
                    "acme.cybozu.com:443",
                    "-servername",
                    "acme.cybozu.com",
                    "-CAfile",
                    "trust.pem",
                    "-verify_return_error",
                    "-x509_strict",
                    "-verify_hostname",
                    "acme.cybozu.com",
                    "-purpose",
                    "sslserver",
                    "-policy_check",
                    version,
                ],
                &[],
            );
            assert!(
                said.contains("Verify return code: 0 (ok)"),
                "{version}: {said}"
            );
            assert!(
                said.contains("Verified peername: *.cybozu.com"),
                "{version}: {said}"
            );
        }
        let python = [
            "-c",
            STRICT_PYTHON,
            "127.0.0.1",
            &port,
            &authorization,
            API_TOKEN,
            "trust.pem",
        ];
        let (ok, said) = run("python3", &python, &[]);
        assert!(ok && said.contains("200 TLSv1.3"), "Python: {said}");
        let node = ["-e", NODE, &port, &authorization];
        let (ok, said) = run("node", &node, &[("NODE_EXTRA_CA_CERTS", "trust.pem")]);
        assert!(ok && said.contains("authorized true"), "Node: {said}");
        let token = format!("X-Cybozu-API-Token: {API_TOKEN}");
        let to_wget = format!("--header={token}");
        // GnuTLS, which judges name constraints by code of its own.
        let wget = [
            "-O",
            "-",
            "--ca-certificate=trust.pem",
            "--tries=1",
            &to_wget,
            "https://acme.cybozu.com/k/v1/records.json?app=1",
        ];
        let (ok, said) = run("wget", &wget, &[("https_proxy", &url)]);
        assert!(ok, "wget: {said}");
        let curl = [
            "--silent",
            "--show-error",
            "--fail",
            "--header",
            &token,
            "--proxy",
            &url,
            "https://acme.cybozu.com/k/v1/records.json?app=1",
        ];
        let (ok, said) = run("curl", &curl, &[("CURL_CA_BUNDLE", "trust.pem")]);
        assert!(ok, "curl: {said}");
        let (ok, said) = run("curl", &curl, &[("CURL_CA_BUNDLE", "ca.pem")]);
        assert!(!ok, "a control: whoever does not trust it refuses: {said}");
        // Java takes the file with its comments (its HttpClient is among tests/clients).
        let (ok, said) = run("keytool", &["-printcert", "-file", "trust.pem"], &[]);
        assert!(
            ok && said.matches("Serial number:").count() == 2,
            "keytool: {said}"
        );
    });
    strict.await.unwrap();
}
