//! A real Prometheus that scrapes gateways every second and evaluates the rules.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::process::{Process, free_ports};
use crate::support::caller::fetch_plain;
use crate::tools::{infra, read, tool};

/// Longest wait for it to start and to scrape.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts one in `dir` with the scrape configuration of `infra/`, but for the targets and the pace.
    pub(crate) async fn start(dir: &Path, scraped: &[SocketAddr]) -> Self {
        let [address] = free_ports();
        let folder = infra("prometheus");
        let mut config = String::new();
        let mut targets = 0;
        for line in read(folder.join("kintone-egress.scrape.yml")).lines() {
            let line = match line.trim() {
                rest if rest.starts_with("- 10.0.") => {
                    targets += 1;
                    if targets > 1 {
                        continue;
                    }
                    let lines = scraped.iter().map(|target| format!("          - {target}"));
                    lines.collect::<Vec<_>>().join("\n")
                }
                "- kintone-egress.recording.yml" | "- kintone-egress.alerts.yml" => {
                    line.replace("- ", &format!("- {}/", folder.display()))
                }
                _ => line.replace("_interval: 15s", "_interval: 1s"),
            };
            config.push_str(&line);
            config.push('\n');
        }
        assert_eq!(targets, 2, "the targets of the example");
        let path = dir.join("prometheus.yml");
        std::fs::write(&path, config).unwrap();
        let log = std::fs::File::create(dir.join("prometheus.log")).unwrap();
        let process = Process::start(
            Command::new(tool("prometheus"))
                .arg(format!("--config.file={}", path.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    dir.join("tsdb").display()
                ))
                .arg(format!("--web.listen-address={address}"))
                .stdout(Stdio::null())
                .stderr(log),
        );
        let mut server = Self {
            address,
            _process: process,
        };
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(address).is_err()
            || fetch_plain(address, "/-/ready").await.0 != 200
        {
            let is_running = server._process.is_running();
            assert!(
                is_running && Instant::now() < deadline,
                "{}",
                read(dir.join("prometheus.log"))
            );
            sleep(Duration::from_millis(50)).await;
        }
        server
    }

    /// Waits until an expression has a result.
    pub(crate) async fn until(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let result = self.query(expression).await.unwrap();
            if !result.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "never: {expression}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The series that an expression gives now; what is wrong with it otherwise.
    pub(crate) async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let encoded: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let (_, body) = fetch_plain(self.address, &format!("/api/v1/query?query={encoded}")).await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        Ok(answer["data"]["result"].as_array().unwrap().clone())
    }

    /// Every rule that it has loaded.
    pub(crate) async fn rules(&self) -> Vec<Value> {
        let (_, body) = fetch_plain(self.address, "/api/v1/rules").await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap();
        groups
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect()
    }
}
