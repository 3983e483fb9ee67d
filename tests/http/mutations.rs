//! Requests with random faults: whatever comes, each answer is kintone's or ours to the last byte,
//! each is logged once, and what reaches kintone has one Host and one length.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::row::{Bench, text};
use crate::support::Plan;
use crate::wire::{Got, Wire};
use crate::{bench, check_counts};

/// How many requests are sent, and how many of them at once.
const REQUESTS: u64 = 600;
const AT_ONCE: usize = 50;

/// What the faults are put into.
const SEEDS: &[&[u8]] = &[
    b"GET https://mutant.cybozu.cn/k/v1/app.json?id=1 HTTP/1.1\r\n{std}X-A: b\r\n\r\n",
    b"POST https://mutant.cybozu.cn/k/v1/record.json HTTP/1.1\r\n{std}Content-Length: 5\r\n\r\nhello",
    b"POST https://mutant.cybozu.cn/x HTTP/1.1\r\n{std}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"DELETE http://mutant.cybozu.cn/x HTTP/1.0\r\n{std}Connection: keep-alive\r\n\r\n",
    b"OPTIONS https://mutant.cybozu.cn HTTP/1.1\r\n{std}Max-Forwards: 1\r\nVia: 1.1 a\r\n\r\n",
    b"CONNECT mutant.cybozu.cn:443 HTTP/1.1\r\n{std}\r\n",
    b"GET https://www.example.com/ HTTP/1.1\r\n{std}Content-Length: 2\r\n\r\nab",
];

/// Bytes that mean something to somebody.
const TELLING: &[u8] = b"\0\t\n\r \"#%,/:;=?@[]\x7f\x80\xff0159aAfF";

/// Pieces that mean something, too.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r\n ",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: x\r\n",
    b"Host: x\r\n",
    b"Connection: close, Content-Length\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\n",
    b"0\r\n\r\n",
    b"GET / HTTP/1.1\r\n",
];

/// SplitMix64: the same requests in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn mutate(&mut self, request: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(request.len());
            match self.below(5) {
                0 => request[at] = TELLING[self.below(TELLING.len())],
                1 => request.insert(at, TELLING[self.below(TELLING.len())]),
                2 => drop(request.remove(at)),
                3 => {
                    let piece = PIECES[self.below(PIECES.len())];
                    // Mostly where a line begins.
                    let lines = request[at..].iter().position(|byte| *byte == b'\n');
                    let at = lines.map_or(at, |line| at + line + 1);
                    drop(request.splice(at..at, piece.iter().copied()));
                }
                _ => {
                    let end = (at + self.below(40)).min(request.len());
                    let again = request[at..end].to_vec();
                    drop(request.splice(at..at, again));
                }
            }
        }
    }
}

#[tokio::test]
async fn whatever_comes_each_answer_is_whole_and_each_call_is_counted() {
    let plan = Plan {
        limits: "head_timeout = \"400ms\"\nstall_timeout = \"400ms\"\ncaller_idle = \"400ms\"\n\
            handshake_timeout = \"400ms\""
            .into(),
        ..Plan::default()
    };
    bench(plan, async |bench| {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut running = JoinSet::new();
        for seed in 0..REQUESTS {
            let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
            let bench = Arc::clone(&bench);
            running.spawn(async move {
                let _turn = turn;
                send_one(&bench, seed).await
            });
        }
        let answers: Vec<Got> = running.join_all().await.into_iter().flatten().collect();
        let refused = answers.iter().filter(|got| got.reason.starts_with("GW_"));
        let refused = refused.count();
        assert!(
            refused > 200 && answers.len() - refused > 50,
            "{refused} of {}",
            answers.len()
        );
        for arrived in bench.kintone.all() {
            let lines = arrived.lines();
            let named = |name: &str| {
                let prefix = format!("{name}:");
                let found = lines
                    .iter()
                    .filter(|line| line.to_ascii_lowercase().starts_with(&prefix));
                found.count()
            };
            let lengths = named("content-length") + named("transfer-encoding");
            assert!(
                named("host") == 1 && lengths <= 1 && named("via") >= 1,
                "{lines:#?}"
            );
        }
        check_counts(&bench).await;
        let mut logged: HashMap<String, u32> = HashMap::new();
        for line in bench.house.output.lines() {
            *logged
                .entry(line["id"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
        for got in answers {
            assert_eq!(
                logged.get(got.field("kintone-egress-request-id")),
                Some(&1),
                "{}",
                got.head
            );
        }
    })
    .await;
}

/// Sends one request with faults; every answer to it.
async fn send_one(bench: &Bench, seed: u64) -> Vec<Got> {
    let mut chance = Chance(seed);
    let mut request = Bench::fill("mutant.cybozu.cn", SEEDS[chance.below(SEEDS.len())]);
    chance.mutate(&mut request);
    let mut wire = Wire::connect(bench.house.proxy).await;
    wire.send(&request).await;
    let mut answers = Vec::new();
    loop {
        match wire.answer("GET").await {
            Ok(got) => {
                check(&got, seed, &request);
                answers.push(got);
            }
            // Between answers the connection may end as it likes: nobody is owed anything.
            Err(cut) => {
                assert_eq!(text(&cut.came), "", "seed {seed}: {}", text(&request));
                return answers;
            }
        }
    }
}

/// An answer is kintone's, or the grant of a tunnel, or ours with all it must tell.
fn check(got: &Got, seed: u64, request: &[u8]) {
    let told = format!(
        "seed {seed}: {}\n{}\n{}",
        text(request),
        got.head,
        text(&got.body)
    );
    assert_eq!(got.field("kintone-egress-request-id").len(), 20, "{told}");
    if !got.reason.starts_with("GW_") {
        assert_eq!(got.status, 200, "{told}");
        return;
    }
    let body: serde_json::Value = serde_json::from_slice(&got.body).unwrap_or_default();
    assert_eq!(body["code"], got.reason, "{told}");
    assert_eq!(body["id"], got.field("kintone-egress-request-id"), "{told}");
    assert!(!got.field("date").is_empty(), "{told}");
}
