//! What is done to hosts and store.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use crate::gateway::{Process, STORES};
use crate::store::Store;

/// A row of numbers that a seed decides (xorshift64, Marsaglia 2003).
pub(crate) struct Draw {
    seed: u64,
    state: u64,
}

/// Faults, and how often each was done.
pub(crate) struct Faults {
    port: u16,
    /// Rows as they once were, hexadecimal, by host.
    old: Vec<(String, String)>,
    is_stopped: bool,
    done: BTreeMap<&'static str, u32>,
}

/// The rows' keys.
const KEYS: [&str; 2] = ["kintone-egress:row:gw-a", "kintone-egress:row:gw-b"];

/// Sets the store's value from hexadecimal.
const PUT: &str = "local bytes = string.gsub(ARGV[1], '..', function(hex) \
    return string.char(tonumber(hex, 16)) end) return redis.call('SET', KEYS[1], bytes)";
/// Gets it so.
const GET: &str = "local value = redis.call('GET', KEYS[1]) or '' return (string.gsub(value, '.', \
    function(byte) return string.format('%02x', string.byte(byte)) end))";

impl Draw {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let drawn = now.map_or(1, |now| now.as_nanos() as u64);
        let seed = seed.unwrap_or(drawn).max(1);
        Self { seed, state: seed }
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % end
    }
}

impl Faults {
    pub(crate) fn new(port: u16) -> Self {
        nft(
            "add table inet chaos\nadd chain inet chaos out { type filter hook output priority 0; }",
        );
        Self {
            port,
            old: Vec::new(),
            is_stopped: false,
            done: BTreeMap::new(),
        }
    }

    pub(crate) const fn done(&self) -> &BTreeMap<&'static str, u32> {
        &self.done
    }

    /// One fault, or the end of those that last.
    pub(crate) async fn one(
        &mut self,
        draw: &mut Draw,
        hosts: &mut [Process; 2],
        store: &mut Store,
    ) {
        let host = draw.below(2) as usize;
        let name = match draw.below(13) {
            0 => {
                hosts[host].kill();
                "kill -9"
            }
            1 | 2 => {
                // Longer than a loan, or shorter.
                let ms = [50, 400, 1500, 4000][draw.below(4) as usize];
                hosts[host].signal("STOP");
                sleep(Duration::from_millis(ms)).await;
                hosts[host].signal("CONT");
                "SIGSTOP"
            }
            3 => {
                store.tell(&["FLUSHALL"]);
                "FLUSHALL"
            }
            4 => {
                store.kill();
                sleep(Duration::from_millis(draw.below(2500))).await;
                store.resume();
                "store killed"
            }
            5 => {
                store.signal("STOP");
                self.is_stopped = true;
                sleep(Duration::from_millis(draw.below(2500))).await;
                store.signal("CONT");
                self.is_stopped = false;
                "store stopped"
            }
            6 => {
                self.remember(store);
                "rows remembered"
            }
            7 => {
                self.roll_back(store);
                "rows rolled back"
            }
            8 => {
                self.cut(&format!(
                    "ip daddr {} tcp dport {}",
                    STORES[host], self.port
                ));
                "cut off towards the store"
            }
            9 => {
                self.cut(&format!(
                    "ip saddr {} tcp sport {}",
                    STORES[host], self.port
                ));
                "cut off from the store"
            }
            10 => {
                self.cut(&format!(
                    "ip daddr {} tcp dport {}",
                    STORES[host], self.port
                ));
                self.cut(&format!(
                    "ip saddr {} tcp sport {}",
                    STORES[host], self.port
                ));
                "cut off both ways"
            }
            11 => {
                fail_over(store, Duration::from_millis(draw.below(2500))).await;
                "failover with lost writes"
            }
            _ => {
                nft("flush chain inet chaos out");
                "healed"
            }
        };
        *self.done.entry(name).or_default() += 1;
    }

    /// Ends all that lasts.
    pub(crate) fn heal(&mut self, hosts: &mut [Process; 2], store: &mut Store) {
        nft("flush chain inet chaos out");
        if self.is_stopped {
            store.signal("CONT");
        }
        for host in hosts {
            host.signal("CONT");
        }
    }

    fn cut(&self, of: &str) {
        nft(&format!("add rule inet chaos out {of} drop"));
    }

    fn remember(&mut self, store: &Store) {
        for key in KEYS {
            let hex = store.tell(&["EVAL", GET, "1", key]);
            let hex = hex.trim().to_owned();
            if !hex.is_empty() {
                self.old.push((key.to_owned(), hex));
            }
        }
    }

    /// Rows as they were a while ago, among those of now.
    fn roll_back(&mut self, store: &Store) {
        for (key, hex) in self.old.drain(..) {
            store.tell(&["EVAL", PUT, "1", &key, &hex]);
        }
    }
}

/// A replica is cut off, its master takes writes for a while and is killed, and what the replica has
/// stands in its place. Hosts meet an empty store and one that takes no writes on the way.
async fn fail_over(store: &mut Store, lost: Duration) {
    let replica = Store::start(&["--replicaof", "127.0.0.1", &store.port.to_string()]);
    replica.until_it_follows();
    replica.tell(&["REPLICAOF", "NO", "ONE"]);
    sleep(lost).await;
    store.kill();
    store.resume();
    store.tell(&["REPLICAOF", "127.0.0.1", &replica.port.to_string()]);
    store.until_it_follows();
    store.tell(&["REPLICAOF", "NO", "ONE"]);
}

fn nft(script: &str) {
    let output = Command::new("nft").arg(script).output();
    let output = output.expect("nft is not installed; tests/setup.sh (make setup) does it");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {said}");
}
