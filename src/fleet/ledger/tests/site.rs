//! Hosts in one room: their ledgers, a quota that counts, and a store that holds the last rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::fleet::ledger::{Access, Beat, Before, Heard, Ledger, Rule, Setup, Terms};
use crate::fleet::moment::Moment;
use crate::fleet::row::Row;
use crate::fleet::share::{Part, Permits, Share, TenantPortion, Usage};
use crate::model::Account;

/// A quota that does as it is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Desk {
    pub(super) totals: BTreeMap<Account, u32>,
    pub(super) usage: BTreeMap<Account, Usage>,
    pub(super) shares: BTreeMap<Account, Share>,
    pub(super) part: Part,
    pub(super) portions: Vec<TenantPortion>,
}

/// One host.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) ledger: Ledger,
    pub(super) desk: Desk,
    pub(super) kept: Option<Vec<u8>>,
    pub(super) last: Option<Beat>,
    /// How fast its clock is, in percent.
    pub(super) pace: u32,
}

/// All hosts and the store.
#[derive(Debug, Clone)]
pub(super) struct Site {
    rule: Option<Rule>,
    /// Since the hosts booted.
    pub(super) now: Duration,
    pub(super) hosts: Vec<Host>,
    pub(super) store: BTreeMap<String, Arc<Row>>,
}

impl Desk {
    /// A desk for one account.
    pub(super) fn new(account: &Account, total: u32) -> Self {
        Self {
            totals: [(account.clone(), total)].into(),
            ..Self::default()
        }
    }

    /// What may be in use when a call starts.
    pub(super) fn usable(&self, account: &Account, now: Moment) -> u32 {
        match self.shares.get(account) {
            Some(share) => share.usable(now),
            None => self.part.of(self.totals[account]),
        }
    }

    /// Lets calls start as far as they may; tells how many are in use.
    pub(super) fn fill(&mut self, account: &Account, now: Moment) -> u32 {
        let usable = self.usable(account, now);
        let usage = self.usage.entry(account.clone()).or_default();
        let started = usage.queued.min(usable.saturating_sub(usage.in_use));
        usage.queued -= started;
        usage.in_use += started;
        usage.in_use
    }
}

impl Permits for Desk {
    fn active(&mut self) -> BTreeMap<Account, Usage> {
        self.usage.clone()
    }

    fn total(&mut self, account: &Account) -> Option<u32> {
        self.totals.get(account).copied()
    }

    fn set(&mut self, account: &Account, share: &Share) -> u32 {
        self.shares.insert(account.clone(), share.clone());
        self.usage.get(account).map_or(0, |usage| usage.in_use)
    }

    fn set_portions(&mut self, _: &Account, portions: &[TenantPortion]) {
        self.portions = portions.to_vec();
    }

    fn unset(&mut self, account: &Account) {
        self.shares.remove(account);
        self.portions.clear();
    }

    fn set_part(&mut self, part: &Part) {
        self.part = part.clone();
    }
}

/// The account of most tests.
pub(super) fn acme() -> Account {
    Account::from_normal("acme.cybozu.com")
}

/// A setup of one of `names`.
pub(super) fn setup(host: &str, names: &[&str], incarnation: u64) -> Setup {
    Setup {
        host: host.to_owned(),
        hosts: names.iter().map(|name| (*name).to_owned()).collect(),
        process: incarnation,
        incarnation,
        before: Before::Nothing,
        access: Access::Open,
        terms: Terms::usual(Duration::from_secs(120), 2),
    }
}

impl Site {
    /// Hosts that have just started, with one account of so many permits.
    pub(super) fn new(names: &[&str], total: u32) -> Self {
        Self::breaking(None, names, total)
    }

    /// The same, and every host breaks a rule.
    pub(super) fn breaking(rule: Option<Rule>, names: &[&str], total: u32) -> Self {
        let mut site = Self {
            rule,
            now: Duration::from_secs(1_000),
            hosts: Vec::new(),
            store: BTreeMap::new(),
        };
        for name in names {
            site.join(setup(name, names, 1), total);
        }
        site
    }

    /// A host joins.
    pub(super) fn join(&mut self, setup: Setup, total: u32) -> usize {
        let at = Moment::from_boot(self.now);
        let ledger = Ledger::breaking(self.rule, setup, at);
        let mut desk = Desk::new(&acme(), total);
        desk.part = ledger.part();
        self.hosts.push(Host {
            ledger,
            desk,
            kept: None,
            last: None,
            pace: 100,
        });
        self.hosts.len() - 1
    }

    /// What a host's clock shows.
    pub(super) fn clock(&self, host: usize) -> Moment {
        Moment::from_boot(self.now * self.hosts[host].pace / 100)
    }

    /// Time passes.
    pub(super) fn pass(&mut self, span: Duration) {
        self.now += span;
    }

    /// A host reads all rows, beats and publishes.
    pub(super) fn beat(&mut self, host: usize) -> Vec<Heard> {
        let heard = self.read(host);
        self.publish(host);
        heard
    }

    /// A host reads all rows.
    pub(super) fn read(&mut self, host: usize) -> Vec<Heard> {
        let now = self.clock(host);
        let ledger = &mut self.hosts[host].ledger;
        let rows = self.store.values();
        rows.map(|row| ledger.hear(now, row)).collect()
    }

    /// A host beats and publishes.
    pub(super) fn publish(&mut self, host: usize) {
        let row = self.beat_alone(host);
        if let Some(row) = row {
            self.store.insert(row.host.clone(), Arc::new(row));
        }
    }

    /// A host beats, and what it has to say is lost.
    pub(super) fn beat_alone(&mut self, host: usize) -> Option<Row> {
        let now = self.clock(host);
        let host = &mut self.hosts[host];
        let beat = host.ledger.beat(now, &mut host.desk);
        if let Some(keep) = &beat.keep {
            host.kept = Some(keep.encode());
        }
        let row = beat.row.as_ref();
        let row = row.map(|row| Row::decode(&row.encode()).unwrap());
        host.last = Some(beat);
        row
    }

    /// Every host beats once, 20 ms pass, calls start.
    pub(super) fn round(&mut self) {
        for host in 0..self.hosts.len() {
            self.beat(host);
        }
        self.pass(Duration::from_millis(20));
        self.fill();
    }

    /// Calls start on every host.
    pub(super) fn fill(&mut self) {
        for host in 0..self.hosts.len() {
            let now = self.clock(host);
            self.hosts[host].desk.fill(&acme(), now);
        }
    }

    /// Calls that wait on a host.
    pub(super) fn queue(&mut self, host: usize, calls: u32) {
        let usage = &mut self.hosts[host].desk.usage;
        usage.entry(acme()).or_default().queued += calls;
    }

    /// Calls that end on a host.
    pub(super) fn end(&mut self, host: usize, calls: u32) {
        let usage = &mut self.hosts[host].desk.usage;
        usage.entry(acme()).or_default().in_use -= calls;
    }

    /// Permits in use on all hosts.
    pub(super) fn in_use(&self) -> u32 {
        (0..self.hosts.len()).map(|host| self.used(host)).sum()
    }

    /// Permits in use on one.
    pub(super) fn used(&self, host: usize) -> u32 {
        let usage = self.hosts[host].desk.usage.get(&acme());
        usage.map_or(0, |usage| usage.in_use)
    }

    /// Permits of its own on one.
    pub(super) fn own(&self, host: usize) -> u32 {
        let desk = &self.hosts[host].desk;
        let share = desk.shares.get(&acme());
        share.map_or_else(|| desk.part.of(desk.totals[&acme()]), |share| share.own)
    }
}
