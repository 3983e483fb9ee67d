//! What a scenario works with, and what must hold at its end whatever it did.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kintone_egress::config::token::hash_token;
use kintone_sim::{Authority, Keep, Ledger, Options, Sim, TenantSettings};
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::echoes::Echoes;
use crate::gateway::{CONCURRENCY, Gateway, PERMITS, fetch, value};
use crate::host::Host;
use crate::names::Names;
use crate::site::{PUBLISHED, STRANGE, Site};
use crate::support::caller::record;
use crate::support::{ACME, API_TOKEN, TOKEN, invariants};
use crate::traffic::{self, Call, Outcome, Tally, Traffic, Way};
use crate::wire::{Seen, Tap};

/// A gateway, a kintone and taps, for one scenario.
pub(crate) struct Lab<'a> {
    pub(crate) site: &'a Site,
    pub(crate) names: &'a Names,
    pub(crate) echoes: &'a Echoes,
    /// Whether kintone may have seen a strange address: for as long as nobody can have noticed.
    pub(crate) strangers: Strangers,
    pub(crate) gateway: Gateway,
    pub(crate) sim: Sim,
    taps: [Tap; 2],
    watch: Watch,
    calls: Vec<Call>,
}

/// Whether kintone may have seen the address of a wrong translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strangers {
    /// Never.
    Never,
    /// The scenario counts them itself.
    Counted,
}

/// What a scenario came to, for the report.
#[derive(Default)]
pub(crate) struct Outcomes {
    /// Every call.
    pub(crate) tally: Tally,
    /// What left the gateway.
    pub(crate) seen: Seen,
}

/// The account of probes.
const PROBE: &str = "probe.cybozu.com";

/// Longest wait for permits to come back and packets to be counted.
const REST: Duration = Duration::from_secs(10);

/// The time that a tap may need to read what has left.
const READING: Duration = Duration::from_millis(50);

impl<'a> Lab<'a> {
    /// A fresh kintone and a gateway that has not started.
    pub(crate) async fn open(
        (site, names, echoes): (&'a Site, &'a Names, &'a Echoes),
        program: PathBuf,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        names.tell_the_truth();
        echoes.liar_says(None);
        let sim = start_kintone(&site.kintone, &dir.join("ca")).await?;
        let folder = tempfile::Builder::new()
            .prefix("gateway-")
            .tempdir_in(dir)?;
        let gateway = Gateway::new(Arc::clone(&site.gateway), program, folder.keep())?;
        let taps = site.taps()?;
        site.witness()?;
        Ok(Self {
            watch: Watch::start(&site.gateway),
            site,
            names,
            echoes,
            strangers: Strangers::Never,
            gateway,
            sim,
            taps,
            calls: Vec::new(),
        })
    }

    /// Sets callers going.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic::start(&self.site.caller, self.sim.ca_pem())
    }

    /// Lets the calls under way end, and keeps them for the report.
    pub(crate) async fn stop(&mut self, traffic: Traffic) {
        self.calls.extend(traffic.stop().await);
    }

    /// Lets traffic go on for a while; the calls that began in that time and have ended.
    pub(crate) async fn phase(&self, traffic: &Traffic, time: Duration) -> Vec<Call> {
        let begun = Instant::now();
        sleep(time).await;
        traffic.since(begun)
    }

    /// The same when all of them must be well, left from exactly these addresses, and taken turns.
    pub(crate) async fn all_well(
        &self,
        traffic: &Traffic,
        time: Duration,
        from: &[std::net::Ipv4Addr],
    ) -> anyhow::Result<()> {
        let calls = self.phase(traffic, time).await;
        let tally = Tally::of(&calls);
        ensure!(tally.count(Outcome::Ok) > 0, "no call came through");
        let ill = tally.beyond(&[Outcome::Ok]);
        ensure!(ill.total() == 0, "calls failed while all was well: {ill}");
        let used = traffic::by_address(&calls);
        let mut expected: Vec<_> = from.iter().map(ToString::to_string).collect();
        expected.sort();
        ensure!(
            used.keys().eq(expected.iter()),
            "left from {used:?}, not from {expected:?}"
        );
        let (most, least) = (used.values().max(), used.values().min());
        let (most, least) = most.zip(least).context("no addresses")?;
        ensure!(least * 3 > most * 2, "they take no turns: {used:?}");
        Ok(())
    }

    /// One call of each way to each of these hosts, all at once.
    pub(crate) async fn call_each(
        &mut self,
        hosts: &[&'static str],
    ) -> Vec<(&'static str, Way, Outcome)> {
        let caller = traffic::caller(self.sim.ca_pem());
        let mut running = Vec::new();
        for host in hosts.iter().copied() {
            for way in [Way::Read, Way::Write, Way::Tunnel] {
                let caller = caller.clone();
                let call = async move { traffic::call(&caller, way, host).await };
                running.push((host, way, self.site.caller.spawn(call)));
            }
        }
        let mut outcomes = Vec::new();
        for (host, way, call) in running {
            let call = call.await.expect("a caller does not panic");
            outcomes.push((host, way, call.outcome));
            self.calls.push(call);
        }
        outcomes
    }

    /// One call of each way to an account that nobody else calls, so that none waits for a permit:
    /// all of them come to one of these.
    pub(crate) async fn probe(&mut self, expected: &[Outcome]) -> anyhow::Result<()> {
        for (_, way, outcome) in self.call_each(&[PROBE]).await {
            ensure!(
                expected.contains(&outcome),
                "a {way:?} now comes to {outcome}, not to one of {expected:?}"
            );
        }
        Ok(())
    }

    /// Accounts of these domains, like any other.
    pub(crate) fn accounts(&self, domains: &[&'static str]) {
        for domain in domains {
            self.sim.tenant(domain, kintone());
        }
    }

    /// Connections and requests that kintone has seen from a wrong translation.
    pub(crate) fn strangers(&self) -> (usize, usize) {
        let ledger = self.sim.ledger();
        let is_strange = |ip: IpAddr| ip == IpAddr::V4(STRANGE);
        let sockets = ledger.sockets.iter();
        let requests = ledger.executions.iter();
        (
            sockets.filter(|it| is_strange(it.peer.ip())).count(),
            requests.filter(|it| is_strange(it.peer.ip())).count(),
        )
    }

    /// Packets towards kintone up to this instant.
    pub(crate) async fn sent(&self) -> u64 {
        sleep(READING).await;
        self.taps[0].seen().promised()
    }

    /// What must hold after every scenario.
    pub(crate) async fn close(mut self, allowed: &[Outcome]) -> (Outcomes, Vec<anyhow::Error>) {
        let mut faults = Vec::new();
        let mut check = |result: anyhow::Result<()>| faults.extend(result.err());
        if self.gateway.has_ended() {
            check(Err(anyhow::anyhow!("the gateway is not running any more")));
        } else {
            check(self.come_to_rest().await);
            check(self.check_output().await);
            check(self.end().await);
        }
        check(self.watch.stop());
        check(self.check_wire().await);
        check(self.check_names());
        check(self.check_kintone());
        check(self.check_calls(allowed));
        let outcomes = Outcomes {
            tally: Tally::of(&self.calls),
            seen: self.taps[0].seen(),
        };
        (outcomes, faults)
    }

    /// Every permit comes back.
    async fn come_to_rest(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + REST;
        loop {
            let held = self.gateway.metric("kintone_egress_permits_held").await?;
            if held == 0.0 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{held} permits do not come back");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn check_output(&self) -> anyhow::Result<()> {
        let output = self.gateway.output().await;
        ensure!(!output.contains("panicked"), "the gateway panicked");
        held(|| invariants::check_secrets(&output, &[TOKEN, API_TOKEN]))
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        self.gateway.signal(Signal::SIGTERM)?;
        let status = self.gateway.ended().await?;
        ensure!(status.success(), "the gateway drained and ended: {status}");
        Ok(())
    }

    /// Nothing left the gateway but what is promised, and the tap has missed nothing of it.
    async fn check_wire(&self) -> anyhow::Result<()> {
        let [router, gateway] = &self.taps;
        sleep(READING).await;
        let witness = self.site.witness()?;
        let counted: u64 = witness.promised.iter().sum();
        let deadline = Instant::now() + REST;
        while router.seen().promised() < counted && Instant::now() < deadline {
            sleep(READING).await;
        }
        for (place, seen) in [
            ("to the internet", router.seen()),
            ("to itself", gateway.seen()),
        ] {
            ensure!(
                seen.strays == 0,
                "{} packets {place} that nobody may send: {:?}",
                seen.strays,
                seen.strays_told
            );
        }
        ensure!(
            witness.strays == 0,
            "the kernel counted {} strays",
            witness.strays
        );
        let seen = router.seen();
        let seen = PUBLISHED.map(|ip| seen.promised.get(&ip).copied().unwrap_or_default());
        ensure!(
            seen == witness.promised,
            "the tap saw {seen:?} packets, the kernel counted {:?}",
            witness.promised
        );
        Ok(())
    }

    /// Only IPv4 addresses were asked for, and only of names within kintone's zones.
    fn check_names(&self) -> anyhow::Result<()> {
        for (name, kind) in self.names.asked() {
            ensure!(kind.to_string() == "A", "{kind} of {name} was asked for");
            ensure!(name.ends_with(".cybozu.com"), "{name} was asked for");
        }
        Ok(())
    }

    fn check_kintone(&self) -> anyhow::Result<()> {
        let ledger = self.sim.ledger();
        let mut allowed: Vec<_> = PUBLISHED.iter().map(ToString::to_string).collect();
        if self.strangers == Strangers::Counted {
            allowed.push(STRANGE.to_string());
        }
        let allowed: Vec<_> = allowed.iter().map(String::as_str).collect();
        held(|| invariants::check_sockets(&ledger, &allowed))?;
        held(|| invariants::check_executions(&ledger))?;
        for account in [ACME, PROBE] {
            let accounting = self.sim.accounting(account);
            ensure!(
                accounting.peak <= PERMITS,
                "{account}: {} calls in flight at once, {PERMITS} allowed",
                accounting.peak
            );
            ensure!(
                accounting.refused == 0,
                "{account}: kintone refused {} calls because of the others",
                accounting.refused
            );
        }
        self.check_writes(&ledger)
    }

    /// Each write happened as often as its answer says.
    fn check_writes(&self, ledger: &Ledger) -> anyhow::Result<()> {
        for (outcome, times) in self.writes(ledger) {
            ensure!(
                outcome != Outcome::Ok || times == 1,
                "a write that is well was executed {times} times"
            );
            ensure!(
                !outcome.means_not_sent() || times == 0,
                "{outcome} means that nothing was sent, and it was executed"
            );
        }
        Ok(())
    }

    /// Calls that were cut had not come to kintone.
    pub(crate) fn expect_cut_unsent(&self) -> anyhow::Result<()> {
        for (outcome, times) in self.writes(&self.sim.ledger()) {
            ensure!(
                outcome != Outcome::Cut || times == 0,
                "a call was taken, executed and not answered"
            );
        }
        Ok(())
    }

    /// What each write came to, and how often kintone executed it.
    fn writes(&self, ledger: &Ledger) -> Vec<(Outcome, u32)> {
        let mut executed = HashMap::<&str, u32>::new();
        for execution in ledger.executions.iter().filter(|e| e.executed) {
            *executed.entry(&execution.body_sha256).or_default() += 1;
        }
        let writes = self.calls.iter().filter_map(|call| {
            // What `hash_token` makes is the SHA-256 of what it is given.
            let body = hash_token(record(call.title.as_ref()?).as_bytes()).to_hex();
            let times = executed.get(body.as_str()).copied().unwrap_or_default();
            Some((call.outcome, times))
        });
        writes.collect()
    }

    fn check_calls(&self, allowed: &[Outcome]) -> anyhow::Result<()> {
        let beyond = Tally::of(&self.calls).beyond(allowed);
        ensure!(beyond.total() == 0, "outcomes that may not be: {beyond}");
        Ok(())
    }
}

/// kintone as every account has it: only the published addresses may come.
fn kintone() -> TenantSettings {
    let mut settings = TenantSettings {
        concurrency: CONCURRENCY,
        allow: Some(PUBLISHED.map(IpAddr::V4).to_vec()),
        ..TenantSettings::default()
    };
    settings.latency.base_ms = 20;
    settings.latency.jitter_ms = 20;
    settings
}

/// A kintone with the account of all scenarios, listening where kintone does.
pub(crate) async fn start_kintone(host: &Host, ca: &Path) -> anyhow::Result<Sim> {
    let deadline = Instant::now() + REST;
    loop {
        let options = Options {
            listen: SocketAddr::from(([0, 0, 0, 0], 443)),
            control: None,
            ca: Some(Authority::load_or_create(ca)?),
            keep: Keep::Executions,
        };
        match host.run(Sim::start(options)).await {
            Ok(sim) => {
                sim.tenant(ACME, kintone());
                sim.tenant(PROBE, kintone());
                return Ok(sim);
            }
            // The one of the scenario before may not have gone yet.
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => sleep(READING).await,
        }
    }
}

/// Turns a failed assertion of the shared house into a fault.
fn held(check: impl FnOnce()) -> anyhow::Result<()> {
    catch_unwind(AssertUnwindSafe(check)).map_err(|panic| {
        let told = panic.downcast_ref::<String>().map(String::as_str);
        let told = told.or_else(|| panic.downcast_ref::<&str>().copied());
        anyhow::anyhow!("{}", told.unwrap_or("an assertion failed"))
    })
}

/// Looks at the permits in `/metrics` all the time.
struct Watch {
    fault: Arc<Mutex<Option<String>>>,
    looks: JoinHandle<()>,
}

impl Watch {
    fn start(host: &Arc<Host>) -> Self {
        let fault = Arc::<Mutex<Option<String>>>::default();
        let (told, host) = (Arc::clone(&fault), Arc::clone(host));
        let looks = tokio::spawn(async move {
            loop {
                // While the gateway is not there, there is nothing to look at.
                if let Ok((200, text)) = fetch(&host, "/metrics").await
                    && let Some(wrong) = imbalance(&text)
                {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(wrong);
                }
                sleep(READING).await;
            }
        });
        Self { fault, looks }
    }

    fn stop(&self) -> anyhow::Result<()> {
        self.looks.abort();
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match &*fault {
            Some(wrong) => bail!("{wrong}"),
            None => Ok(()),
        }
    }
}

fn imbalance(metrics: &str) -> Option<String> {
    let [acquired, released, held] = ["acquired_total", "released_total", "held"]
        .map(|name| value(metrics, &format!("kintone_egress_permits_{name}")).unwrap_or(f64::NAN));
    let balanced = acquired - released - held == 0.0;
    (!balanced).then(|| format!("permits: {acquired} - {released} - {held} is not 0"))
}
