//! A record with a file, there and back: what the client got is what kintone has, byte for byte.

use std::path::PathBuf;

use kintone_sim::Sim;
use serde_json::Value;

use super::client::{Client, Distrust, Fields, Mode};
use super::process::{Errand, Process};
use super::support::{ACME, House, TOKEN};

/// Title of the record, with what is easily broken on the way.
const TITLE: &str = "サイボウズ & Söhne \"100%\" 😀";

/// A proxy user name that says all that a call may say of itself.
const USER: &str = "events+company-1;priority=batch;wait=20000;purpose=incoming";

/// Lets a client do its work and compares.
pub(crate) async fn check(house: &House, client: &Client, mode: Mode, mut process: Process) {
    let file = house.config_path.with_file_name("a.bin");
    let content = content();
    std::fs::write(&file, &content).unwrap();
    let said = process.run(&work(file)).await;
    assert_eq!(said["ok"], true, "{said}");
    process.end().await;

    let kept = house.sim.records(ACME, 1);
    let added = kept.iter().find(|record| record["title"]["value"] == TITLE);
    let added = added.unwrap_or_else(|| panic!("no such record: {kept:?}"));
    assert_eq!(added["tel"]["value"], "03-0000-1111");
    assert_eq!(added["num"]["value"], "42");
    let key = added["files"]["value"][0]["fileKey"].as_str().unwrap();
    assert!(
        house.sim.file(ACME, key).unwrap() == content,
        "the file arrived changed"
    );
    assert_eq!(
        said["file_sha256"],
        sha256_hex(&content),
        "the file came back changed"
    );
    let got = said["answer"]["records"].as_array().unwrap();
    match client.fields {
        Fields::All => assert_eq!(*got, kept),
        Fields::Values => assert_values(got, &kept),
    }
    if mode.is_inspected() {
        let [h1, h2] = handshakes(house).await;
        assert_eq!(
            (h1 > 0.0, h2 > 0.0),
            (mode != Mode::InspectH2, mode == Mode::InspectH2)
        );
    }
    if let Some(version) = said["version"].as_str() {
        let version = version.trim_end_matches(".0");
        assert_eq!(version, mode.version(), "{said}");
    }
    check_log(house, mode).await;
    check_headers(&house.sim, mode);
}

/// Reads the records only; the client must get them.
pub(crate) async fn read(house: &House, process: &mut Process) {
    let errand = Errand {
        what: "read",
        ..work(PathBuf::new())
    };
    let said = process.run(&errand).await;
    assert_eq!(said["ok"], true, "{said}");
    let got = said["answer"]["records"].as_array().unwrap();
    assert_eq!(got.len(), house.sim.records(ACME, 1).len());
}

/// A client that does not trust the gateway's authority fails and says why; the gateway knows why if it
/// is told.
pub(crate) async fn check_distrust(house: &House, client: &Client, mut process: Process) {
    let before = house.output.lines().len();
    let errand = Errand {
        what: "read",
        ..work(PathBuf::new())
    };
    let said = process.run(&errand).await;
    assert_eq!(said["ok"], false, "{said}");
    let why = said["said"].as_str().unwrap().to_lowercase();
    assert!(why.contains("certif"), "{said}");
    process.end().await;
    if client.distrust == Distrust::Told {
        house
            .until("it is in the log", |house| {
                house.output.lines().len() > before
            })
            .await;
    }
    for line in &house.output.lines()[before..] {
        assert_eq!(line["outcome"], "caller_gone", "{line}");
        let told = line["detail"] == "caller_distrusts_ca";
        assert!(told || client.distrust == Distrust::Silent, "{line}");
    }
}

/// TLS handshakes of inspected connections that went well, by h1 and h2.
async fn handshakes(house: &House) -> [f64; 2] {
    let mut counts = [0.0; 2];
    for (count, version) in counts.iter_mut().zip(["h1", "h2"]) {
        let sample = format!(
            "kintone_egress_inspect_handshakes_total{{caller=\"events\",result=\"{version}\"}}"
        );
        *count = house.metric(&sample).await.unwrap_or_default();
    }
    counts
}

fn work(file: PathBuf) -> Errand {
    Errand {
        what: "work",
        user: USER,
        token: TOKEN,
        host: ACME,
        title: TITLE,
        file,
    }
}

/// Bytes of every value, line ends and what looks like the end of a multipart body among them.
fn content() -> Vec<u8> {
    let mut content = b"\r\n--\r\n\n\0\xff\xfe--boundary--\r\n".to_vec();
    content.extend((0..300_000_u32).map(|n| (n.wrapping_mul(n) % 251) as u8));
    content
}

fn sha256_hex(content: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The fields that the client shows have kintone's values.
fn assert_values(got: &[Value], kept: &[Value]) {
    assert_eq!(got.len(), kept.len());
    for kept in kept {
        let number = &kept["$id"]["value"];
        let got = got
            .iter()
            .find(|got| got["レコード番号"]["value"] == *number)
            .unwrap_or_else(|| panic!("record {number} is missing: {got:?}"));
        for (code, field) in got.as_object().unwrap() {
            assert_eq!(field["value"], kept[code]["value"], "{code} of {number}");
        }
    }
}

/// Each line of the access log is of the expected way in, and has what the user name says.
async fn check_log(house: &House, mode: Mode) {
    house
        .until("all calls have ended", |house| {
            house.quotas.balance().held == 0
        })
        .await;
    house
        .until("all calls are in the log", |house| {
            let lines = house.output.lines().len();
            let calls = house.sim.ledger().executions.len();
            lines == calls || !mode.sees_calls() && lines > 0
        })
        .await;
    for line in house.output.lines() {
        let told = [
            &line["mode"],
            &line["caller"],
            &line["outcome"],
            &line["tenant"],
            &line["priority"],
            &line["purpose"],
        ];
        let expected = [
            mode.in_log(),
            "events",
            "ok",
            "company-1",
            "batch",
            "incoming",
        ];
        assert_eq!(told, expected, "{line}");
    }
}

/// What is meant for the gateway does not go to kintone, where the gateway sees the calls.
fn check_headers(sim: &Sim, mode: Mode) {
    let ledger = sim.ledger();
    let headers = ledger.executions.iter().flat_map(|call| &call.headers);
    for (name, _) in headers {
        let is_ours = name.to_ascii_lowercase().starts_with("proxy-");
        assert!(!is_ours || !mode.sees_calls(), "{name} reached kintone");
    }
}

/// Executions at kintone so far.
pub(crate) fn executions(sim: &Sim) -> usize {
    sim.ledger().executions.len()
}
