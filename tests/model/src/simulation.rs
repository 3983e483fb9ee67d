//! Hosts under load for minutes, by the ledger's own plans, while everything around them goes wrong:
//! a store that loses, repeats, delays, rolls back and forgets; hosts cut off, stopped, killed; clocks
//! of unequal speed. All of it by a seed, so that what was found comes again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::dice::Dice;
use crate::fleet::ledger::{Access, Before, Kept, Ledger, Rule, Setup, Terms};
use crate::fleet::moment::Moment;
use crate::fleet::row::Row;
use crate::fleet::share::{Foreign, Part, Permits, Share, TenantPortion, Usage};
use crate::model::Account;

/// How bad the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    /// Nothing goes wrong.
    Calm,
    /// Everything does.
    Harsh,
}

/// What a run came to.
#[derive(Debug, Default)]
struct Outcome {
    /// The most calls at kintone at once.
    peak: usize,
    /// Calls started.
    started: u64,
    /// Times a call started on a loan.
    on_loan: u64,
    kills: u64,
    stops: u64,
    /// When the limit was passed.
    passed_at: Option<Duration>,
}

/// A call at kintone.
#[derive(Debug, Clone, Copy)]
struct Call {
    host: usize,
    start: u64,
    /// When kintone is done with it.
    ends_at: Duration,
}

struct Host {
    name: String,
    starts: u64,
    ledger: Ledger,
    desk: Desk,
    kept: Option<Vec<u8>>,
    /// How fast its clock is, in percent, and what it showed at the beginning.
    pace: u32,
    boot: Duration,
    state: State,
    next_beat: Duration,
    cut_off_until: Duration,
    want: u32,
    want_until: Duration,
    /// Calls between the look at their permit and the first byte.
    late: u32,
    /// Since when more is in use than may be.
    over_since: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Runs,
    StoppedUntil(Duration),
    DeadUntil(Duration),
}

#[derive(Default)]
struct Desk {
    share: Option<Share>,
    part: Part,
    usage: Usage,
    /// Permits of calls that were aborted, and of earlier starts, and when they come back.
    settling: Vec<(u32, Moment)>,
    calls: u32,
}

struct Room {
    world: World,
    broken: Option<Rule>,
    dice: Dice,
    terms: Terms,
    now: Duration,
    hosts: Vec<Host>,
    calls: Vec<Call>,
    /// Every row that a host wrote of late, the newest last.
    store: Vec<Vec<Row>>,
    outcome: Outcome,
}

const TICK: Duration = Duration::from_millis(10);
const BEAT: Duration = Duration::from_millis(60);
const TOTAL: u32 = 20;
const WORKERS: u32 = 2;
const ROWS_KEPT: usize = 24;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn account() -> Account {
    Account::from_normal("acme.cybozu.com")
}

impl Room {
    fn new(seed: u64, hosts: usize, world: World, broken: Option<Rule>) -> Self {
        let mut dice = Dice::new(seed);
        let terms = Terms {
            loan: ms(600),
            overrun: ms(300),
            unacked: ms(100),
            settle: ms(500),
            drift_percent: 10,
            margin: ms(30),
            workers: WORKERS,
        };
        let names: Vec<_> = (0..hosts).map(|host| format!("gw-{host}")).collect();
        let host = |name: &String| {
            let pace = match world {
                World::Calm => 100,
                World::Harsh => 96 + dice.below(9) as u32,
            };
            let boot = ms(dice.below(1_000_000));
            let setup = setup(name, &names, 1, Before::Nothing, terms);
            let ledger = Ledger::breaking(broken, setup, Moment::from_boot(boot));
            let desk = Desk {
                part: ledger.part(),
                ..Desk::default()
            };
            Host {
                name: name.clone(),
                starts: 1,
                ledger,
                desk,
                kept: None,
                pace,
                boot,
                state: State::Runs,
                next_beat: ms(dice.below(60)),
                cut_off_until: Duration::ZERO,
                want: 0,
                want_until: Duration::ZERO,
                late: 0,
                over_since: None,
            }
        };
        Self {
            hosts: names.iter().map(host).collect(),
            world,
            broken,
            dice,
            terms,
            now: Duration::ZERO,
            calls: Vec::new(),
            store: vec![Vec::new(); hosts],
            outcome: Outcome::default(),
        }
    }

    fn run(mut self, span: Duration) -> Outcome {
        while self.now < span && self.outcome.passed_at.is_none() {
            self.now += TICK;
            self.end_calls();
            for host in 0..self.hosts.len() {
                if self.world == World::Harsh {
                    self.strike(host);
                }
                if self.hosts[host].state == State::Runs {
                    self.step(host);
                }
                self.check();
            }
        }
        self.outcome
    }

    /// At no instant are there more calls at kintone, or more that could be, than the limit.
    fn check(&mut self) {
        let calls = self.calls.len();
        self.outcome.peak = self.outcome.peak.max(calls);
        let living = self.hosts.iter();
        let living = living.filter(|host| !matches!(host.state, State::DeadUntil(_)));
        let usable: u32 = living.map(|host| host.usable(self.now)).sum();
        if calls > TOTAL as usize || usable > TOTAL {
            self.outcome.passed_at.get_or_insert(self.now);
        }
    }

    fn end_calls(&mut self) {
        let now = self.now;
        let hosts = &mut self.hosts;
        self.calls.retain(|call| {
            let is_over = now >= call.ends_at;
            let host = &mut hosts[call.host];
            if is_over && call.start == host.starts && !matches!(host.state, State::DeadUntil(_)) {
                host.desk.calls -= 1;
            }
            !is_over
        });
    }

    /// Something may go wrong with a host, or be well again.
    fn strike(&mut self, index: usize) {
        let now = self.now;
        match self.hosts[index].state {
            State::Runs if self.dice.once_in(1_500) => self.kill(index),
            State::Runs if self.dice.once_in(1_000) => self.stop(index),
            State::Runs if self.dice.once_in(800) => {
                let span = ms(self.dice.below(4_000));
                self.hosts[index].cut_off_until = now + span;
            }
            State::Runs if self.dice.once_in(3_000) => {
                self.store.iter_mut().for_each(Vec::clear);
            }
            State::StoppedUntil(until) if now >= until => {
                let host = &mut self.hosts[index];
                host.state = State::Runs;
                let late = std::mem::take(&mut host.late);
                (0..late).for_each(|_| self.send(index));
            }
            State::DeadUntil(until) if now >= until => self.start(index),
            State::Runs | State::StoppedUntil(_) | State::DeadUntil(_) => {}
        }
    }

    fn kill(&mut self, index: usize) {
        self.outcome.kills += 1;
        let latest = self.now + self.terms.unacked + self.terms.settle;
        self.shorten(index, latest);
        let span = ms(20 + self.dice.below(3_000));
        self.hosts[index].state = State::DeadUntil(self.now + span);
    }

    /// A host is stopped, some of its calls just before their first byte.
    fn stop(&mut self, index: usize) {
        self.outcome.stops += 1;
        let latest = self.now + self.terms.tail();
        self.shorten(index, latest);
        let span = ms(20 + self.dice.below(5_000));
        let now = self.now;
        let host = &mut self.hosts[index];
        host.state = State::StoppedUntil(now + span);
        let room = host.usable(now).saturating_sub(host.in_use());
        host.late = room.min(WORKERS);
        host.desk.calls += host.late;
    }

    /// Nobody attends to these calls any more: they end by then.
    fn shorten(&mut self, index: usize, latest: Duration) {
        let start = self.hosts[index].starts;
        for call in &mut self.calls {
            if call.host == index && call.start == start {
                call.ends_at = call.ends_at.min(latest);
            }
        }
    }

    fn start(&mut self, index: usize) {
        let names: Vec<_> = self.hosts.iter().map(|host| host.name.clone()).collect();
        let is_lost = self.dice.once_in(3);
        let now = self.now;
        let terms = self.terms;
        let host = &mut self.hosts[index];
        let clock = host.clock(now);
        host.starts += 1;
        host.state = State::Runs;
        host.late = 0;
        host.over_since = None;
        let left = host.in_use();
        let (before, left) = match &host.kept {
            _ if is_lost => (Before::Unknown(clock), TOTAL),
            Some(kept) => (Before::Kept(Kept::decode(kept).unwrap()), left),
            None => (Before::Nothing, left),
        };
        if is_lost {
            host.kept = None;
        }
        let setup = setup(&host.name, &names, host.starts, before, terms);
        host.ledger = Ledger::breaking(self.broken, setup, clock);
        let settled = clock.after(terms.certainly(terms.unacked + terms.settle));
        host.desk = Desk {
            part: host.ledger.part(),
            settling: vec![(left, settled)],
            ..Desk::default()
        };
        host.beat(now, &[]);
        host.next_beat = now + BEAT;
    }

    fn step(&mut self, index: usize) {
        let now = self.now;
        let want = self.dice.below(4);
        let span = ms(100 + self.dice.below(3_000));
        let host = &mut self.hosts[index];
        if now >= host.want_until {
            host.want = [0, 2, 8, 100][want as usize];
            host.want_until = now + span;
        }
        if now >= host.next_beat {
            host.next_beat = now + BEAT;
            self.beat(index);
        }
        self.abort(index);
        let host = &self.hosts[index];
        let (in_use, usable) = (host.in_use(), host.usable(now));
        let calls = host.want.min(usable).saturating_sub(in_use);
        for _ in 0..calls {
            self.hosts[index].desk.calls += 1;
            self.send(index);
        }
        if in_use + calls > self.hosts[index].own() {
            self.outcome.on_loan += u64::from(calls);
        }
        let host = &mut self.hosts[index];
        host.desk.usage.queued = host.want.saturating_sub(in_use + calls);
    }

    /// The first byte of a call goes to kintone.
    fn send(&mut self, index: usize) {
        let span = match self.dice.below(40) {
            0 => 5_000,
            1..=5 => 800,
            _ => 30 + self.dice.below(150),
        };
        let now = self.now;
        let others = self.calls.iter().filter(|call| call.host != index).count();
        let ghosts = self.calls.iter();
        let start = self.hosts[index].starts;
        let ghosts = ghosts.filter(|call| call.host == index && call.start != start);
        let calls = (others + ghosts.count()) as u32;
        let host = &mut self.hosts[index];
        host.desk.usage.foreign = Some(Foreign {
            sent_at: host.clock(now),
            calls,
        });
        self.calls.push(Call {
            host: index,
            start,
            ends_at: now + ms(span),
        });
        self.outcome.started += 1;
    }

    /// Calls that have outlived their loan for too long are aborted, and settle.
    fn abort(&mut self, index: usize) {
        let (now, terms) = (self.now, self.terms);
        let host = &mut self.hosts[index];
        let covered = host.covered(now);
        let over = host.in_use().saturating_sub(covered).min(host.desk.calls);
        if over == 0 {
            host.over_since = None;
            return;
        }
        let clock = host.clock(now).since_boot();
        let since = *host.over_since.get_or_insert(clock);
        if clock - since < terms.overrun {
            return;
        }
        host.over_since = None;
        let start = host.starts;
        let settled = host.clock(now).after(terms.unacked + terms.settle);
        host.desk.settling.push((over, settled));
        host.desk.calls -= over;
        let mine = self.calls.iter_mut().rev();
        let mine = mine.filter(|call| call.host == index && call.start == start);
        for call in mine.take(over as usize) {
            call.start = 0;
            call.ends_at = call.ends_at.min(now + terms.unacked + terms.settle);
        }
    }

    fn beat(&mut self, index: usize) {
        let is_cut_off = self.now < self.hosts[index].cut_off_until;
        let mut rows = Vec::new();
        for (host, written) in self.store.iter().enumerate() {
            if host == index || is_cut_off || written.is_empty() {
                continue;
            }
            let newest = written.len() - 1;
            let at = match self.world {
                World::Harsh if self.dice.once_in(4) => {
                    self.dice.below(written.len() as u64) as usize
                }
                World::Calm | World::Harsh => newest,
            };
            rows.push(written[at].clone());
        }
        let row = self.hosts[index].beat(self.now, &rows);
        let is_lost = is_cut_off || self.world == World::Harsh && self.dice.once_in(6);
        if let Some(row) = row.filter(|_| !is_lost) {
            let written = &mut self.store[index];
            written.push(row);
            if written.len() > ROWS_KEPT {
                written.remove(0);
            }
        }
    }
}

impl Host {
    fn clock(&self, now: Duration) -> Moment {
        Moment::from_boot(self.boot + now * self.pace / 100)
    }

    fn in_use(&self) -> u32 {
        let settling = self.desk.settling.iter().map(|(permits, _)| permits);
        self.desk.calls + settling.sum::<u32>()
    }

    fn usable(&self, now: Duration) -> u32 {
        let share = self.desk.share.as_ref();
        let share = share.map(|share| share.usable(self.clock(now)));
        share.unwrap_or_else(|| self.desk.part.of(TOTAL))
    }

    fn own(&self) -> u32 {
        let share = self.desk.share.as_ref().map(|share| share.own);
        share.unwrap_or_else(|| self.desk.part.of(TOTAL))
    }

    /// Permits that cover running calls.
    fn covered(&self, now: Duration) -> u32 {
        let view = self.ledger.view(self.clock(now));
        let covered = view.accounts.first().map(|account| account.covered);
        covered.unwrap_or(0).max(self.usable(now))
    }

    fn beat(&mut self, now: Duration, rows: &[Row]) -> Option<Row> {
        let clock = self.clock(now);
        self.desk.settling.retain(|(_, until)| clock < *until);
        self.desk.usage.in_use = self.in_use();
        for row in rows {
            self.ledger.hear(clock, row);
        }
        let beat = self.ledger.beat(clock, &mut self.desk);
        if let Some(kept) = beat.keep {
            self.kept = Some(kept.encode());
        }
        beat.row.map(|row| Row::decode(&row.encode()).unwrap())
    }
}

impl Permits for Desk {
    fn active(&mut self) -> BTreeMap<Account, Usage> {
        [(account(), self.usage.clone())].into()
    }

    fn total(&mut self, _: &Account) -> Option<u32> {
        Some(TOTAL)
    }

    fn set(&mut self, _: &Account, share: &Share) -> u32 {
        self.share = Some(share.clone());
        self.usage.in_use
    }

    fn set_portions(&mut self, _: &Account, _: &[TenantPortion]) {}

    fn unset(&mut self, _: &Account) {
        self.share = None;
    }

    fn set_part(&mut self, part: &Part) {
        self.part = part.clone();
    }
}

fn setup(host: &str, names: &[String], incarnation: u64, before: Before, terms: Terms) -> Setup {
    Setup {
        host: host.to_owned(),
        hosts: names.to_vec(),
        process: incarnation,
        incarnation,
        before,
        access: Access::Open,
        terms,
    }
}

#[test]
fn no_seed_passes_the_limit() {
    let seeds = 1_000 * crate::proof::effort() as u64;
    let mut sum = Outcome::default();
    for seed in 0..seeds {
        let hosts = 2 + (seed % 2) as usize;
        let room = Room::new(seed, hosts, World::Harsh, None);
        let outcome = room.run(Duration::from_secs(60));
        assert_eq!(outcome.passed_at, None, "seed {seed}");
        sum.peak = sum.peak.max(outcome.peak);
        sum.started += outcome.started;
        sum.on_loan += outcome.on_loan;
        sum.kills += outcome.kills;
        sum.stops += outcome.stops;
    }
    println!("{seeds} seeds: {sum:?}");
    // The faults were there, and sharing went on between them.
    assert_eq!(sum.peak, TOTAL as usize);
    assert!(sum.on_loan * 20 > sum.started, "{sum:?}");
    assert!(sum.kills > seeds && sum.stops > seeds, "{sum:?}");
}

#[test]
fn without_faults_permits_are_used() {
    for seed in 0..20 {
        let outcome = Room::new(seed, 2, World::Calm, None).run(Duration::from_secs(20));
        assert_eq!(outcome.peak, TOTAL as usize);
        assert!(outcome.on_loan > 0);
    }
}

#[test]
fn the_simulator_sees_broken_rules_too() {
    let rules = [
        Rule::KeepAway,
        Rule::CountFromBeat,
        Rule::TakeOnce,
        Rule::ReturnDrained,
        Rule::SeenFirst,
        Rule::Inherit,
    ];
    for rule in rules {
        let shows = (0..200).any(|seed| {
            let hosts = 2 + (seed % 2) as usize;
            let room = Room::new(seed, hosts, World::Harsh, Some(rule));
            room.run(Duration::from_secs(60)).passed_at.is_some()
        });
        assert!(shows, "{rule:?} can be broken and no seed shows it");
    }
}
