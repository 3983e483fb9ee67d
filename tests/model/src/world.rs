//! Two hosts, one account, one store, and kintone's count: every step that any of them can take.
//!
//! Time is in ticks. A call at kintone lasts as long as it likes while permits cover it; when a loan
//! is over and no permit covers it any more, it is over a tail later. A read of the store finds any row
//! that a host ever wrote, or none. A host can be stopped for any time between the last look at its
//! permits and the first byte of a call, and it can be killed.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use crate::fleet::ledger::{Access, Before, Kept, Ledger, Rule, Setup, Terms, Will};
use crate::fleet::moment::{Moment, see_from};
use crate::fleet::row::Row;
use crate::fleet::share::{Foreign, Part, Permits, Share, TenantPortion, Usage};
use crate::model::Account;

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Permits of the account.
    pub total: u32,
    /// Permits of a loan.
    pub lends: u32,
    /// Beats of each host, at most.
    pub beats: [u8; 2],
    /// Starts after the first of each host, at most.
    pub restarts: [u8; 2],
    /// What a start finds of the one before.
    pub memory: Memory,
    /// Threads that can be stopped before the first byte of a call: none or one.
    pub workers: u32,
    /// Whether kintone's count is looked at.
    pub count: Count,
    /// The rule that is broken.
    pub broken: Option<Rule>,
}

/// What a start finds of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// What was kept.
    Kept,
    /// Nothing.
    Lost,
}

/// Whether kintone's count is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    Seen,
    Ignored,
}

/// A state of it all.
#[derive(Clone)]
pub struct World {
    scope: Scope,
    now: u64,
    hosts: [Host; 2],
}

/// A step from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A tick passes.
    Tick,
    /// A call starts on a host.
    Start(usize),
    /// A call ends on a host.
    End(usize),
    /// A permit comes back whose call kintone had ended before.
    Settle(usize),
    /// A host has looked at its permits for a call, and is stopped before the first byte.
    Stop(usize),
    /// It goes on with that byte.
    Wake(usize),
    /// A host reads that row of the other, or none, and beats.
    Beat(usize, Option<usize>, Will),
    /// A call's answer tells a host how many others kintone counts.
    Look(usize),
    /// A call of a dead start ends at kintone.
    Fade(usize),
    /// A host is killed and starts again.
    Restart(usize),
}

#[derive(Clone, Hash)]
struct Host {
    ledger: Ledger,
    desk: Desk,
    /// Its calls at kintone.
    at: u32,
    /// Calls of earlier starts at kintone, and when those died.
    ghosts: Vec<(u32, Moment)>,
    /// Calls that earlier starts left, in the books until then.
    inherited: Vec<(u32, Moment)>,
    /// What its permits covered in the last ticks.
    covered: VecDeque<u32>,
    /// Whether it is stopped before a first byte.
    is_stopped: bool,
    kept: Option<Kept>,
    beats: u8,
    starts: u8,
}

/// Everything that a host wrote is in here too, but it is the same for equal ledgers' pasts.
#[derive(Clone, Hash, Default)]
struct Desk {
    total: u32,
    share: Option<Share>,
    part: Part,
    in_use: u32,
    foreign: Option<Foreign>,
    rows: Vec<Arc<Row>>,
}

/// The length of a tick: longer than no other span of the ledger but its terms.
const TICK: Duration = Duration::from_millis(1);
/// Calls can begin on a loan for so many ticks.
const LOAN: u32 = 2;
/// They are over so many ticks after its end.
const TAIL: u32 = 1;
const NAMES: [&str; 2] = ["a", "b"];
/// Loans are made in one direction: what they do in the other is the same.
const LENDER: usize = 0;
const BORROWER: usize = 1;

impl Step {
    /// The row that a host reads in this step.
    pub const fn row_of(&self, host: usize) -> Option<usize> {
        if let Self::Beat(of, row, _) = self
            && *of == host
        {
            return *row;
        }
        None
    }
}

impl World {
    /// Two hosts that have just started.
    pub fn new(scope: Scope) -> Self {
        let now = 100;
        let host = |index: usize| {
            let setup = setup(scope, index, 1, Before::Nothing);
            let ledger = Ledger::breaking(scope.broken, setup, moment(now));
            let mut host = Host {
                desk: Desk {
                    total: scope.total,
                    part: ledger.part(),
                    ..Desk::default()
                },
                ledger,
                at: 0,
                ghosts: Vec::new(),
                inherited: Vec::new(),
                covered: VecDeque::new(),
                is_stopped: false,
                kept: None,
                beats: scope.beats[index],
                starts: scope.restarts[index],
            };
            host.cover(moment(now));
            host
        };
        Self {
            scope,
            now,
            hosts: [host(0), host(1)],
        }
    }

    /// Every step that is possible now.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Tick];
        let now = moment(self.now);
        for (index, host) in self.hosts.iter().enumerate() {
            let other = &self.hosts[1 - index];
            if host.starts > 0 {
                steps.push(Step::Restart(index));
            }
            if self.scope.count == Count::Seen && !host.ghosts.is_empty() {
                steps.push(Step::Fade(index));
            }
            if host.is_stopped {
                steps.push(Step::Wake(index));
                continue;
            }
            if host.desk.in_use < host.desk.usable(now) {
                steps.push(Step::Start(index));
                if self.scope.workers > 0 {
                    steps.push(Step::Stop(index));
                }
            }
            if host.at > 0 {
                steps.push(Step::End(index));
                if self.scope.count == Count::Seen {
                    steps.push(Step::Look(index));
                }
            }
            if host.desk.in_use > host.at + host.inherited_now() {
                steps.push(Step::Settle(index));
            }
            if host.beats > 0 {
                let rows = (0..other.desk.rows.len()).map(Some);
                let will = match index {
                    LENDER => Will::Lend(BORROWER, self.scope.lends),
                    _ => Will::Give(1),
                };
                for row in rows.chain([None]) {
                    steps.push(Step::Beat(index, row, Will::Hold));
                    steps.push(Step::Beat(index, row, will));
                }
            }
        }
        steps
    }

    /// Takes a step.
    pub fn take(&mut self, step: Step) {
        let now = moment(self.now);
        match step {
            Step::Tick => {
                self.now += 1;
                let now = moment(self.now);
                self.hosts.iter_mut().for_each(|host| host.pass(now));
            }
            Step::Start(host) => {
                self.hosts[host].desk.in_use += 1;
                self.hosts[host].at += 1;
            }
            Step::End(host) => {
                self.hosts[host].desk.in_use -= 1;
                self.hosts[host].at -= 1;
            }
            Step::Settle(host) => self.hosts[host].desk.in_use -= 1,
            Step::Stop(host) => {
                self.hosts[host].desk.in_use += 1;
                self.hosts[host].is_stopped = true;
            }
            Step::Wake(host) => {
                self.hosts[host].is_stopped = false;
                self.hosts[host].at += 1;
            }
            Step::Beat(host, row, will) => self.beat(host, row, will),
            Step::Look(host) => {
                let other = &self.hosts[1 - host];
                let calls = other.at + other.ghosts() + self.hosts[host].ghosts();
                self.hosts[host].desk.foreign = Some(Foreign {
                    sent_at: now,
                    calls,
                });
            }
            Step::Fade(host) => {
                let ghosts = &mut self.hosts[host].ghosts;
                ghosts[0].0 -= 1;
                ghosts.retain(|(calls, _)| *calls > 0);
            }
            Step::Restart(host) => self.restart(host),
        }
    }

    /// How far the limit is passed, now or by calls that could start this instant.
    pub fn excess(&self) -> u32 {
        let now = moment(self.now);
        let hosts = self.hosts.iter().map(|host| host.reach(now));
        hosts.sum::<u32>().saturating_sub(self.scope.total)
    }

    /// What tells this state from others.
    pub fn fingerprint(&self, seeds: &[foldhash::fast::FixedState; 2]) -> u128 {
        see_from(moment(self.now), horizon());
        let hash = |seed: &foldhash::fast::FixedState| seed.hash_one(&self.hosts);
        u128::from(hash(&seeds[0])) << 64 | u128::from(hash(&seeds[1]))
    }

    fn beat(&mut self, index: usize, row: Option<usize>, will: Will) {
        let now = moment(self.now);
        let row = row.map(|row| Arc::clone(&self.hosts[1 - index].desk.rows[row]));
        let host = &mut self.hosts[index];
        host.beats -= 1;
        if let Some(row) = row {
            host.ledger.hear(now, &row);
        }
        host.ledger.force(will);
        let beat = host.ledger.beat(now, &mut host.desk);
        if let Some(kept) = beat.keep {
            host.kept = Some(kept);
        }
        host.ledger.calm();
        let row = beat.row.map(|mut row| {
            for account in &mut row.accounts {
                (account.in_use, account.usable, account.queued) = (0, 0, 1);
            }
            Arc::new(row)
        });
        host.desk.rows.extend(row);
        host.cover(now);
    }

    fn restart(&mut self, index: usize) {
        let now = moment(self.now);
        let scope = self.scope;
        let host = &mut self.hosts[index];
        host.starts -= 1;
        let before = match (scope.memory, &host.kept) {
            (Memory::Lost, _) => Before::Unknown(now),
            (Memory::Kept, Some(kept)) => Before::Kept(kept.clone()),
            (Memory::Kept, None) => Before::Nothing,
        };
        if host.at > 0 {
            host.ghosts.push((host.at, now));
        }
        // The flight record has what was in flight; without it, all that may have been.
        let left = match scope.memory {
            Memory::Kept => host.at + host.inherited_now(),
            Memory::Lost => scope.total,
        };
        host.at = 0;
        host.is_stopped = false;
        host.inherited = vec![(left, now.after(TICK * TAIL))];
        host.inherited.retain(|(calls, _)| *calls > 0);
        let setup = setup(
            scope,
            index,
            2 + u64::from(scope.restarts[index] - host.starts),
            before,
        );
        host.ledger = Ledger::breaking(scope.broken, setup, now);
        host.desk.share = None;
        host.desk.foreign = None;
        host.desk.part = host.ledger.part();
        host.desk.in_use = left;
        host.covered.clear();
        host.beats += 1;
        self.beat(index, None, Will::Hold);
    }
}

impl Host {
    /// Calls of it that can be at kintone this instant.
    fn reach(&self, now: Moment) -> u32 {
        let more = match self.is_stopped {
            true => 1,
            false => self.desk.usable(now).saturating_sub(self.desk.in_use),
        };
        self.at + self.ghosts() + more
    }

    fn ghosts(&self) -> u32 {
        self.ghosts.iter().map(|(calls, _)| calls).sum()
    }

    fn inherited_now(&self) -> u32 {
        self.inherited.iter().map(|(calls, _)| calls).sum()
    }

    /// Remembers what its permits cover now: starts, and calls that run on what is not given back.
    fn cover(&mut self, now: Moment) {
        let view = self.ledger.view(now);
        let listed: u32 = view.accounts.iter().map(|account| account.covered).sum();
        let covered = listed.max(self.desk.usable(now));
        match self.covered.back_mut() {
            Some(last) => *last = (*last).max(covered),
            None => self.covered.push_back(covered),
        }
    }

    fn pass(&mut self, now: Moment) {
        let tail = TICK * TAIL;
        self.ghosts.retain(|(_, died)| now < died.after(tail));
        let over: u32 = self
            .inherited
            .iter()
            .filter(|(_, until)| now >= *until)
            .map(|(calls, _)| calls)
            .sum();
        self.inherited.retain(|(_, until)| now < *until);
        self.desk.in_use -= over;
        self.covered.push_back(0);
        self.cover(now);
        if self.covered.len() > TAIL as usize + 1 {
            self.covered.pop_front();
        }
        let covered = self.covered.iter().copied().max().unwrap_or(0);
        self.at = self.at.min(covered);
        // Nobody reads the answers of a process that is stopped: they end.
        let is_long = self.is_stopped && self.covered.iter().all(|one| *one <= self.desk.own());
        if is_long {
            self.at = 0;
        }
    }
}

impl Desk {
    fn usable(&self, now: Moment) -> u32 {
        let share = self.share.as_ref().map(|share| share.usable(now));
        share.unwrap_or_else(|| self.part.of(self.total))
    }

    fn own(&self) -> u32 {
        let share = self.share.as_ref().map(|share| share.own);
        share.unwrap_or_else(|| self.part.of(self.total))
    }
}

impl Permits for Desk {
    fn active(&mut self) -> BTreeMap<Account, Usage> {
        let usage = Usage {
            in_use: self.in_use,
            queued: 1,
            tenants: Vec::new(),
            foreign: self.foreign,
        };
        [(Account::from_normal("a"), usage)].into()
    }

    fn total(&mut self, _: &Account) -> Option<u32> {
        Some(self.total)
    }

    fn set(&mut self, _: &Account, share: &Share) -> u32 {
        self.share = Some(share.clone());
        self.in_use
    }

    fn set_portions(&mut self, _: &Account, _: &[TenantPortion]) {}

    fn unset(&mut self, _: &Account) {
        self.share = None;
    }

    fn set_part(&mut self, part: &Part) {
        self.part = part.clone();
    }
}

fn setup(scope: Scope, index: usize, incarnation: u64, before: Before) -> Setup {
    Setup {
        host: NAMES[index].to_owned(),
        hosts: NAMES.map(str::to_owned).to_vec(),
        process: incarnation,
        incarnation,
        before,
        access: Access::Open,
        terms: Terms {
            loan: TICK * LOAN,
            overrun: Duration::ZERO,
            unacked: Duration::ZERO,
            settle: TICK * TAIL,
            drift_percent: 0,
            margin: Duration::ZERO,
            workers: scope.workers,
        },
    }
}

fn moment(tick: u64) -> Moment {
    Moment::from_boot(TICK * u32::try_from(tick).unwrap())
}

/// What is further back than this makes no difference.
fn horizon() -> u64 {
    let ticks = TICK * (LOAN + TAIL + 1);
    u64::try_from(ticks.as_nanos()).unwrap()
}
