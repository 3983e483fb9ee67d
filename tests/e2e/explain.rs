//! `explain` and the live gateway take the same decision: 10,000 random requests, four rule books.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kintone_egress::config::file::{Environment, load};
use kintone_egress::config::token::hash_token;
use kintone_egress::model::Mode;
use kintone_egress::operator::explain::{Explainer, Question};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::support::{House, Plan, house};

/// Requests of each rule book.
const REQUESTS: usize = 2500;

/// How many of them are under way at once: far fewer than there are permits.
const AT_ONCE: usize = 10;

/// The token of every caller of this file that has one, behind its name.
const TOKEN: &str = "canary-of-";

const CALLERS: &str = r#"
[[caller]]
name = "narrow"
token_sha256 = "{narrow}"
accounts = ["acme.cybozu.com", "*.kintone.com"]
tenants = ["company-*", "solo"]
modes = ["forward"]
[[caller]]
name = "tunnels"
token_sha256 = "{tunnels}"
modes = ["tunnel"]
networks = ["127.0.0.0/29"]
[[caller]]
name = "inspects"
token_sha256 = "{inspects}"
modes = ["inspect"]
[[caller]]
name = "off"
token_sha256 = "{off}"
enabled = false
[[caller]]
name = "lan"
networks = ["127.0.0.16/28"]
[account."closed.cybozu.com"]
enabled = false
[account."acme.cybozu.com"]
tunnel_h2_weight = 2
"#;

const ANONYMOUS: &str = "[callers]\nanonymous = true\nnetworks = [\"127.0.0.32/28\"]\n";

fn plan(tables: &str) -> Plan {
    let mut tables = format!("{CALLERS}{tables}");
    for name in ["narrow", "tunnels", "inspects", "off"] {
        let hash = hash_token(format!("{TOKEN}{name}").as_bytes()).to_hex();
        tables = tables.replace(&format!("{{{name}}}"), &hash);
    }
    Plan {
        tables,
        resolve: "\"bad.cybozu.com\" = \"10.0.0.1\"\n\"*.cybozu.cn\" = \"169.254.169.254\"".into(),
        ..Plan::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_decides_as_the_gateway_does() {
    let codes = compare(plan(""), 0x5eed_0001).await;
    for code in [
        "",
        "GW_BAD_REQUEST",
        "GW_AUTHENTICATION_REQUIRED",
        "GW_DESTINATION_FORBIDDEN",
        "GW_CALLER_FORBIDDEN",
    ] {
        let count = codes.get(code).copied().unwrap_or_default();
        assert!(count >= REQUESTS / 50, "{code:?} {count} times: {codes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_decides_as_the_gateway_does_for_anonymous_callers() {
    compare(plan(ANONYMOUS), 0x5eed_0002).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_decides_as_the_gateway_does_for_configured_accounts() {
    let plan = Plan {
        upstream: "accounts = \"configured\"".into(),
        ..plan(&ANONYMOUS.replace("networks", "#"))
    };
    let codes = compare(plan, 0x5eed_0003).await;
    assert!(
        codes["GW_DESTINATION_FORBIDDEN"] > REQUESTS / 10,
        "{codes:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_decides_as_the_gateway_does_without_an_address() {
    let plan = Plan {
        addresses: "[[egress.address]]\npublished = \"18.177.83.94\"\nbind = \"198.51.100.94\"\n"
            .into(),
        ..plan(ANONYMOUS)
    };
    let codes = compare(plan, 0x5eed_0004).await;
    assert!(codes["GW_EGRESS_UNAVAILABLE"] >= REQUESTS / 50, "{codes:?}");
    // `me` is a page of the gateway's own; nothing else is let through.
    assert!(codes[""] < REQUESTS / 50, "{codes:?}");
}

/// Asks both about the same requests; how often each code came, none as "".
async fn compare(plan: Plan, seed: u64) -> BTreeMap<String, usize> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    house(plan, async |house| {
        let config = load(&house.config_path, &Environment::default())
            .unwrap()
            .config;
        let explainer = Arc::new(Explainer::new(Arc::new(config)));
        let mut askers = JoinSet::new();
        for asker in 0..AT_ONCE as u64 {
            let explainer = Arc::clone(&explainer);
            let proxy = house.proxy;
            askers.spawn(async move {
                let mut dice = Dice(seed ^ (asker << 32));
                let mut codes: BTreeMap<String, usize> = BTreeMap::new();
                for _ in 0..REQUESTS / AT_ONCE {
                    let case = Case::roll(&mut dice);
                    let explanation = explainer.explain(&case.question);
                    let explained = explanation.refused().map_or("", |code| code.name());
                    let live = case.ask(proxy).await;
                    assert_eq!(explained, live, "{case:?}\n{explanation}");
                    assert!(!explanation.to_string().contains("canary"), "{explanation}");
                    *codes.entry(live).or_default() += 1;
                }
                codes
            });
        }
        let mut all: BTreeMap<String, usize> = BTreeMap::new();
        while let Some(codes) = askers.join_next().await {
            for (code, count) in codes.unwrap() {
                *all.entry(code).or_default() += count;
            }
        }
        println!("{all:?}");
        check_lines(&house, all.values().sum()).await;
        sender.send(all).unwrap();
    })
    .await;
    receiver.await.unwrap()
}

/// Each request has its line, whatever became of it.
async fn check_lines(house: &House, requests: usize) {
    house
        .until("each has its line", |house| {
            house.output.text().lines().count() >= requests
        })
        .await;
    assert_eq!(house.output.lines().len(), requests);
}

/// A small generator (xorshift64*): the same requests at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % count
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// The first most times, else one of the others.
    fn mostly<'a>(&mut self, usual: &'a str, others: &[&'a str]) -> &'a str {
        if self.below(10) < 8 {
            usual
        } else {
            self.pick(others)
        }
    }
}

/// A request, as it is asked about and as it is sent.
#[derive(Debug)]
struct Case {
    question: Question,
    /// The request line's method and target.
    line: String,
}

impl Case {
    fn roll(dice: &mut Dice) -> Self {
        let name = dice.pick(&[
            "events",
            "nightly",
            "narrow",
            "tunnels",
            "inspects",
            "off",
            "lan",
            "nobody",
            "anonymous",
        ]);
        let user = match name {
            "anonymous" => name.to_owned(),
            name => {
                let options = dice.mostly(
                    "",
                    &[
                        "+company-1",
                        "+solo",
                        "+other",
                        "+a b",
                        "+",
                        ";priority=batch",
                        ";wait=2000;purpose=incoming",
                        ";wait=x",
                        ";wait=1;wait=2",
                        "+solo;nonsense=1",
                    ],
                );
                format!("{name}{options}")
            }
        };
        let tenant = dice.mostly(
            "-",
            &["company-1", "company-2", "solo", "other", "a b", "é", ""],
        );
        let tenant = Some(tenant.to_owned()).filter(|tenant| tenant != "-");
        let from = dice.pick(&[
            "127.0.0.1",
            "127.0.0.5",
            "127.0.0.17",
            "127.0.0.33",
            "127.0.0.99",
        ]);
        let (mode, method, url, line) = Self::target(dice);
        Self {
            question: Question {
                user,
                tenant,
                mode,
                from: Some(from.parse().unwrap()),
                method,
                url,
            },
            line,
        }
    }

    /// Mode, method and URL of the question, and what stands on the wire.
    fn target(dice: &mut Dice) -> (Option<Mode>, String, String, String) {
        let host = dice.mostly(
            "acme.cybozu.com",
            &[
                "ACME.Cybozu.Com",
                "acme.s.cybozu.com",
                "a.kintone.com",
                "closed.cybozu.com",
                "other.cybozu.com",
                "bad.cybozu.com",
                "x.cybozu.cn",
                "evil.example.com",
                "acme.cybozu.com.evil.example",
                "127.0.0.1",
                "[::1]",
                "xn--a.cybozu.com",
                "a_b.cybozu.com",
                "acme.cybozu.com.",
                "a.b.cybozu.com",
                "cybozu.com",
                "s.cybozu.com",
                "u:canary@acme.cybozu.com",
                "a%2eb.cybozu.com",
                "-a.cybozu.com",
                "[::1",
                "é.cybozu.com",
            ],
        );
        let port = dice.mostly("", &[":443", ":80", ":8443", ":", ":x", ":99999", ":0443"]);
        let path = dice.mostly(
            "/k/v1/records.json?app=1&secret=canary",
            &[
                "/",
                "",
                "?x=1",
                "/#part",
                "/a b",
                "/é",
                "/%zz",
                "/..",
                "//",
                "/k/v1/file.json",
            ],
        );
        let scheme = dice.mostly("https", &["http", "HTTPS", "ftp", "ws", ""]);
        let url = format!("{scheme}://{host}{port}{path}");
        match dice.below(10) {
            // What a client makes of a URL when it tunnels.
            0 | 1
                if host != "[::1"
                    && matches!(scheme, "http" | "https")
                    && !port.starts_with(":0") =>
            {
                let usual = if scheme == "http" { ":80" } else { ":443" };
                let has_port = !port.is_empty() || host.starts_with("u:");
                let target = format!("{host}{}", if has_port { port } else { usual });
                let mode = if dice.below(4) == 0 {
                    Mode::Inspect
                } else {
                    Mode::Tunnel
                };
                let line = format!("CONNECT {target}");
                (Some(mode), "GET".to_owned(), url, line)
            }
            2 | 3 => {
                let port = dice.mostly(":443", &["", ":80", ":8443", ":", ":x", ":443/"]);
                let target = format!("{host}{port}");
                let line = format!("CONNECT {target}");
                (None, "CONNECT".to_owned(), target, line)
            }
            4 => {
                let target = dice.pick(&[
                    "/",
                    "/k/v1/app.json",
                    "*",
                    "/.kintone-egress/ready",
                    "/.kintone-egress/me",
                    "/.kintone-egress/none",
                    "/.kintone-egress/me?x=canary",
                    "acme.cybozu.com",
                    "https:",
                    "https:///x",
                    "://x",
                ]);
                let method = dice.mostly("GET", &["POST", "HEAD", "OPTIONS", "TRACE", "CONNECT"]);
                (
                    None,
                    method.to_owned(),
                    target.to_owned(),
                    format!("{method} {target}"),
                )
            }
            _ => {
                let method = dice.mostly(
                    "GET",
                    &[
                        "DELETE", "PUT", "HEAD", "OPTIONS", "TRACE", "get", "BREW", "G T", "G#T",
                        "Gé",
                    ],
                );
                let mode = (dice.below(2) == 0).then_some(Mode::Forward);
                let line = format!("{method} {url}");
                (mode, method.to_owned(), url, line)
            }
        }
    }

    /// Sends it, and says which code of ours came back; "" if none.
    async fn ask(&self, proxy: SocketAddr) -> String {
        let Question { user, tenant, .. } = &self.question;
        let mut head = format!(
            "{} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n",
            self.line
        );
        let name = user.split(['+', ';']).next().unwrap();
        let token = match name {
            "events" => crate::support::TOKEN.to_owned(),
            "nightly" => crate::support::BATCH_TOKEN.to_owned(),
            "lan" => String::new(),
            name => format!("{TOKEN}{name}"),
        };
        if user != "anonymous" {
            let pair = STANDARD.encode(format!("{user}:{token}"));
            head.push_str(&format!("Proxy-Authorization: Basic {pair}\r\n"));
        }
        if let Some(tenant) = tenant {
            head.push_str(&format!("Kintone-Egress-Tenant: {tenant}\r\n"));
        }
        head.push_str("\r\n");
        let from: IpAddr = self.question.from.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let mut stream = socket.connect(proxy).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => answer.push(byte),
                Err(error) => panic!(
                    "{error} after {:?}: {self:?}",
                    String::from_utf8_lossy(&answer)
                ),
            }
        }
        let text = String::from_utf8_lossy(&answer);
        let status_line = text.lines().next().unwrap();
        let reason = status_line.splitn(3, ' ').nth(2).unwrap_or_default();
        let is_tunnel = status_line.contains(" 200") && self.line.starts_with("CONNECT ");
        if !is_tunnel {
            // To its end, so that the call is over when its permit is.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        if reason.starts_with("GW_") {
            reason.to_owned()
        } else {
            String::new()
        }
    }
}
