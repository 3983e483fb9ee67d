//! A host of a fleet as the program that people run, so that it can die as programs do.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::pair::{Pair, Wish};
use crate::store::until;
use crate::support::TOKEN;
use crate::support::caller::{Caller, fetch_plain};
use crate::support::invariants::check_secrets;
use crate::support::program::{addresses_in, without_environment};

/// One that runs. Dropped, it is killed.
pub(crate) struct Process {
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    said: PathBuf,
    ca_pem: String,
}

impl Process {
    /// Starts it, or starts it again: its state is kept.
    pub(crate) fn start(pair: &Pair, name: &str, wish: &Wish) -> Self {
        let config_path = pair.configure(name, name, wish);
        let said = config_path.with_extension("stderr");
        let program = Command::new(env!("CARGO_BIN_EXE_kintone-egress"));
        let child = without_environment(program)
            .args(["serve", "--config"])
            .arg(&config_path)
            .current_dir(config_path.parent().unwrap())
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let words = || std::fs::read_to_string(&said).unwrap();
        until("the process serves", || addresses_in(&words()).is_some());
        let (proxy, admin) = addresses_in(&words()).unwrap();
        Self {
            proxy,
            admin,
            child,
            said,
            ca_pem: pair.sim.ca_pem().to_owned(),
        }
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.proxy, &self.ca_pem, "events", TOKEN)
    }

    /// The same caller on behalf of a tenant.
    pub(crate) fn caller_of(&self, tenant: &str) -> Caller {
        Caller::new(self.proxy, &self.ca_pem, &format!("events+{tenant}"), TOKEN)
    }

    /// A page of its admin listener.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        fetch_plain(self.admin, path).await
    }

    /// Permits that it has in this state, of all accounts.
    pub(crate) async fn permits(&self, state: &str) -> u64 {
        let (_, page) = self.page("/api/v1/fleet").await;
        let fleet: serde_json::Value = serde_json::from_str(&page).unwrap();
        fleet["permits"][state].as_u64().unwrap()
    }

    /// Permits that it may use now, of all accounts.
    pub(crate) async fn usable(&self) -> u64 {
        self.permits("own").await + self.permits("borrowed").await
    }

    /// Waits until it may use as many permits as `condition` asks for; how long that took.
    pub(crate) async fn until_usable(
        &self,
        limit: Duration,
        condition: impl Fn(u64) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        loop {
            let permits = self.usable().await;
            if condition(permits) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < limit, "never enough or few: {permits}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Ends it as an operator does.
    pub(crate) fn end(&mut self) {
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success());
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only on one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let said = std::fs::read_to_string(&self.said).unwrap();
            check_secrets(&said, &[TOKEN, crate::store::PASSWORD]);
        }
    }
}
