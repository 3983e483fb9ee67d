//! The public listener as browsers, feed readers and scripts use it.

use std::process::Command;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::caller::ask_raw;
use crate::support::{House, Plan, house};
use crate::{FIRST, FORMER, PUBLIC, SECOND, memory, root, tool};

/// Least contrast of text that WCAG 2.2 asks for (success criterion 1.4.3).
const CONTRAST_MIN: f64 = 4.5;

/// A list with an address of each state.
fn plan() -> Plan {
    let known = [
        (FIRST, "active", 400),
        (SECOND, "planned", 3),
        (FORMER, "active", 400),
    ];
    Plan {
        listen: PUBLIC.into(),
        published: memory(&known),
        tables:
            "[public]\nservice = \"サンプル電話 & <Phone>\"\ncontact = \"support@phone.example\"\n"
                .into(),
        ..Plan::default()
    }
}

fn url(house: &House) -> String {
    format!("http://{}/", house.public.unwrap())
}

/// Runs a program to its end without holding the gateway up; what it says is JSON.
async fn run(mut command: Command) -> Value {
    let ended = tokio::task::spawn_blocking(move || command.output());
    let output = ended.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[tokio::test]
async fn customers_can_read_the_page_on_any_screen() {
    house(plan(), async |house| {
        let folder = root().join("tests/published");
        let chromium = tool("chromium");
        let mut command = Command::new("node");
        command
            .arg(folder.join("page.mjs"))
            .arg(chromium)
            .arg(url(&house))
            .args(std::env::var_os("PUBLISHED_PICTURES"));
        let seen = run(command).await;
        let seen = seen.as_array().unwrap();
        assert_eq!(seen.len(), 16);
        for view in seen {
            judge(view);
        }
        let papers = |scheme: &str| -> Vec<&str> {
            let of = seen.iter().filter(|view| view["scheme"] == scheme);
            let mut papers: Vec<_> = of.map(|view| view["paper"].as_str().unwrap()).collect();
            papers.dedup();
            papers
        };
        let (light, dark) = (papers("light"), papers("dark"));
        assert_eq!((light.len(), dark.len()), (1, 1));
        assert_ne!(light, dark);
    })
    .await;
}

fn judge(view: &Value) {
    let place = format!("{} {} {}", view["path"], view["width"], view["scheme"]);
    let text = view["text"].as_str().unwrap();
    let (lang, title, words) = if view["path"].as_str().unwrap().contains("en") {
        let words = [
            "Both are needed.",
            "Will be used from",
            "“Deny all” cannot work.",
        ];
        ("en", "IP addresses to allow in kintone", words)
    } else {
        let words = [
            "2 つとも必要です。",
            "から使用します",
            "「すべて拒否」では連携できません。",
        ];
        ("ja", "kintone に許可していただく IP アドレス", words)
    };
    assert_eq!(view["status"], 200, "{place}");
    assert_eq!(view["lang"], lang, "{place}");
    assert_eq!(view["title"], title, "{place}");
    assert_eq!(view["complaints"], serde_json::json!([]), "{place}");
    assert_eq!(view["scripts"], 0, "{place}");
    for word in words {
        assert!(text.contains(word), "{place}: {word}: {text}");
    }
    let line = format!("{FIRST}/32, {SECOND}/32");
    for word in [
        &line,
        "サンプル電話 & <Phone>",
        "support@phone.example",
        FORMER,
    ] {
        assert!(text.contains(word), "{place}: {word}");
    }
    // Rows to type come before the file that may replace all.
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{place}: {word}"));
    assert!(at("CIDR") < at("CSV"), "{place}");
    assert!(view["texts"].as_u64().unwrap() > 60, "{place}");
    let contrast = view["contrast"]["ratio"].as_f64().unwrap();
    assert!(contrast >= CONTRAST_MIN, "{place}: {}", view["contrast"]);
    assert_eq!(view["overflow"], 0, "{place}: {}", view["beyond"]);
    assert_eq!(view["beyond"], serde_json::json!([]), "{place}");
    let headings = view["headings"].as_array().unwrap();
    assert_eq!(headings.iter().filter(|level| **level == 1).count(), 1);
}

#[tokio::test]
async fn programs_of_others_read_the_feeds() {
    house(plan(), async |house| {
        let mut command = Command::new(root().join(".venv/bin/python"));
        command
            .arg(root().join("tests/published/feeds.py"))
            .arg(url(&house))
            .arg(root().join("infra/schemas/egress-ips.schema.json"));
        let read = run(command).await;
        let all = [FIRST, SECOND, FORMER].map(|address| format!("{address}/32"));
        assert_eq!(read["json"], serde_json::json!(all));
        assert_eq!(read["text"], serde_json::json!(all));
        let rows = read["csv"].as_array().unwrap();
        assert_eq!(rows[0], serde_json::json!(["IP Address", "CIDR", "Memo"]));
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[1][0], FIRST);
        assert_eq!(rows[1][1], "", "a single address has none");
        assert_eq!(rows[1][2], "サンプル電話 & <Phone> 接続元 1/3");
        assert_eq!(read["version"], "atom10");
        let entries = read["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 2, "{entries:#?}");
        for (entry, address) in entries.iter().zip([FORMER, SECOND]) {
            let title = entry[1].as_str().unwrap();
            assert!(title.starts_with(&format!("{address}/32: ")), "{title}");
            assert!(entry[0].as_str().unwrap().starts_with("urn:uuid:"));
        }
        assert_ne!(entries[0][0], entries[1][0]);
    })
    .await;
}

#[tokio::test]
async fn the_wire_is_as_http_says() {
    house(plan(), async |house| {
        let public = house.public.unwrap();
        let ask = async |head: &str| {
            let head = format!("{head}\r\nHost: list.example\r\nConnection: close\r\n\r\n");
            ask_raw(public, head.as_bytes()).await
        };
        let get = ask("GET /egress-ips.csv HTTP/1.1").await;
        assert_eq!(get.headers["content-type"], "text/csv; charset=Shift_JIS");
        let length = get.headers["content-length"].to_str().unwrap().to_owned();
        let mut stream = TcpStream::connect(public).await.unwrap();
        let head = b"HEAD /egress-ips.csv HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut head = String::new();
        stream.read_to_string(&mut head).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains(&format!("content-length: {length}\r\n")),
            "{head}"
        );
        assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
        let tag = get.headers["etag"].to_str().unwrap();
        let again = ask(&format!(
            "GET /egress-ips.csv HTTP/1.1\r\nIf-None-Match: {tag}"
        ))
        .await;
        assert_eq!(again.status, 304);
        assert!(again.body.is_empty());
        let post = ask("POST / HTTP/1.1\r\nContent-Length: 0").await;
        assert_eq!(post.status, 405);
        assert_eq!(
            ask("GET /metrics HTTP/1.1").await.status,
            404,
            "not an operator's"
        );
        assert_eq!(ask("GET /api/v1/config HTTP/1.1").await.status, 404);
    })
    .await;
}

#[tokio::test]
async fn who_sends_nothing_keeps_nobody_out_for_long() {
    let plan = Plan {
        tables: "[public]\nconnections = 2\n".into(),
        ..plan()
    };
    house(plan, async |house| {
        let public = house.public.unwrap();
        let mut silent = Vec::new();
        for _ in 0..2 {
            silent.push(TcpStream::connect(public).await.unwrap());
        }
        // They hold both places, until the time for a head is over.
        let begun = tokio::time::Instant::now();
        let head = "GET /egress-ips.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = ask_raw(public, head.as_bytes()).await;
        assert_eq!(answer.status, 200);
        assert!(begun.elapsed().as_secs() >= 5, "the bound holds");
        drop(silent);
    })
    .await;
}
