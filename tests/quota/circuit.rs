//! Maintenance and domains that kintone does not know, as callers meet them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kintone_egress::config::{Circuit, CircuitSettings, Config, QuotaSettings};
use kintone_egress::model::{Account, Cause, Denial, Detail, Mode};
use kintone_egress::quota::{CircuitState, Closure};
use tokio::time::{Instant, sleep};

use crate::house::{CALL, House, MS, Wish, all, breathe, config};

/// A kintone that is in maintenance or not, and watches how it is called.
#[derive(Debug)]
struct Edge {
    is_in_maintenance: AtomicBool,
    running: AtomicU32,
    /// Most calls at once that it turned away.
    peak_in_vain: AtomicU32,
    in_vain: AtomicU32,
    /// Most calls at once in each time that kintone takes for one.
    peaks: [AtomicU32; TURNS],
}

/// For so many times of that length it is watched: 64 s.
const TURNS: usize = 640;

/// How long kintone takes for a call; for one in maintenance it takes a tenth.
const SERVICE: Duration = Duration::from_millis(100);

impl Default for Edge {
    fn default() -> Self {
        Self {
            is_in_maintenance: AtomicBool::default(),
            running: AtomicU32::default(),
            peak_in_vain: AtomicU32::default(),
            in_vain: AtomicU32::default(),
            peaks: std::array::from_fn(|_| AtomicU32::default()),
        }
    }
}

impl Edge {
    async fn execute(&self, since: Instant) -> Option<Cause> {
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        let turn = since.elapsed().as_millis() / SERVICE.as_millis();
        self.peaks[(turn as usize).min(TURNS - 1)].fetch_max(running, Ordering::Relaxed);
        let answer = if self.is_in_maintenance.load(Ordering::Relaxed) {
            self.in_vain.fetch_add(1, Ordering::Relaxed);
            self.peak_in_vain.fetch_max(running, Ordering::Relaxed);
            sleep(SERVICE / 10).await;
            Some(Cause::Maintenance)
        } else {
            sleep(SERVICE).await;
            None
        };
        self.running.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    fn peak(&self, turn: usize) -> u32 {
        self.peaks[turn].load(Ordering::Relaxed)
    }
}

/// How a call ended: by kintone, well or not, or by us.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Served,
    Maintenance,
    Told(Option<Duration>),
    Other(Denial),
}

impl House {
    async fn call_edge(&self, edge: &Edge, since: Instant) -> End {
        let mut permit = match self.admit("t", CALL).await {
            Ok(permit) => permit,
            Err(Denial::AccountMaintenance(Detail::MaintenanceSeen, after)) => {
                return End::Told(after);
            }
            Err(denial) => return End::Other(denial),
        };
        permit.sent();
        let cause = edge.execute(since).await;
        match cause {
            None => permit.answered(Some(100), None),
            Some(_) => permit.failed(None, None, cause),
        }
        permit.finish();
        cause.map_or(End::Served, |_| End::Maintenance)
    }

    /// One call whose answer is this.
    async fn hears(&self, cause: Option<Cause>) {
        let mut permit = self.admit("t", CALL).await.expect("may go");
        permit.sent();
        match cause {
            None => permit.answered(Some(100), Some(1)),
            Some(_) => permit.failed(None, None, cause),
        }
        permit.finish();
    }
}

#[tokio::test(start_paused = true)]
async fn five_hundred_callers_through_a_maintenance() {
    let house = House::new(QuotaSettings::default());
    let edge = Arc::new(Edge::default());
    let since = Instant::now();
    let callers = (0..500).map(|_| {
        let (house, edge) = (house.clone(), Arc::clone(&edge));
        async move {
            let mut ends = Vec::new();
            while since.elapsed() < Duration::from_secs(60) {
                let end = house.call_edge(&edge, since).await;
                if let End::Told(after) = end {
                    sleep(after.expect("it is told when to return")).await;
                }
                ends.push(end);
            }
            ends
        }
    });
    let begin_and_end = {
        let edge = Arc::clone(&edge);
        async move {
            sleep(Duration::from_secs(10)).await;
            assert_eq!(edge.peak(95), 80, "all permits are in use");
            edge.is_in_maintenance.store(true, Ordering::Relaxed);
            // The calls that are there when it begins.
            sleep(200 * MS).await;
            edge.peak_in_vain.store(0, Ordering::Relaxed);
            sleep(Duration::from_secs(20) - 200 * MS).await;
            edge.is_in_maintenance.store(false, Ordering::Relaxed);
        }
    };
    let (ends, ()) = tokio::join!(all(callers), begin_and_end);
    let ends: Vec<_> = ends.into_iter().flatten().collect();
    let count = |wanted: fn(&End) -> bool| ends.iter().filter(|end| wanted(end)).count();
    let others = count(|end| matches!(end, End::Other(_)));
    assert_eq!(
        others, 0,
        "every call is served, or told of the maintenance"
    );
    assert!(count(|end| matches!(end, End::Told(_))) > 500);
    assert_eq!(
        edge.peak_in_vain.load(Ordering::Relaxed),
        1,
        "one at a time"
    );
    // Those in flight when it begins, those one by one until it is certain, and a probe after 1, 2, 4
    // and 8 s.
    let in_vain = edge.in_vain.load(Ordering::Relaxed);
    assert!(in_vain < 80 + 120 + 10, "{in_vain}");
    let back = (300..TURNS)
        .find(|turn| edge.peak(*turn) > 0)
        .expect("back");
    for (turn, most) in (back..).zip([1, 3, 6, 12, 24, 48]) {
        let peak = edge.peak(turn);
        assert!(peak <= most, "{peak} calls at once where {most} are due");
    }
    assert_eq!(edge.peak(back + 20), 80, "all permits again");
    house.assert_balanced(0);
    assert_eq!(house.look().circuit, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_single_bad_answer_refuses_nobody() {
    let house = House::new(QuotaSettings::default());
    house.hears(Some(Cause::Maintenance)).await;
    assert_eq!(house.look().circuit, CircuitState::Suspect);
    let edge = Arc::new(Edge::default());
    let since = Instant::now();
    let calls = (0..200).map(|_| {
        let (house, edge) = (house.clone(), Arc::clone(&edge));
        async move { house.call_edge(&edge, since).await }
    });
    let ends = all(calls).await;
    assert!(ends.iter().all(|end| *end == End::Served), "{ends:?}");
    assert!(since.elapsed() < 6 * SERVICE, "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_may_not_wait_is_told_of_the_maintenance_and_a_tunnel_too() {
    let house = House::new(QuotaSettings::default());
    for _ in 0..3 {
        house.hears(Some(Cause::Maintenance)).await;
        sleep(500 * MS).await;
    }
    let tunnel = Wish {
        mode: Mode::Tunnel,
        ..CALL
    };
    let told = |after| Denial::AccountMaintenance(Detail::MaintenanceSeen, Some(after));
    assert_eq!(house.admit("t", tunnel).await.unwrap_err(), told(500 * MS));
    sleep(500 * MS).await;
    let probe = house.admit("t", CALL).await.expect("goes to see");
    let hasty = Wish {
        wait: Some(Duration::ZERO),
        ..CALL
    };
    for wish in [hasty, tunnel] {
        assert_eq!(house.admit("t", wish).await.unwrap_err(), told(1000 * MS));
    }
    // It leaves unsent: the next one goes.
    let waiting = tokio::spawn({
        let house = house.clone();
        async move { house.admit("t", CALL).await.map(drop) }
    });
    breathe().await;
    assert!(!waiting.is_finished());
    drop(probe);
    assert!(waiting.await.unwrap().is_ok());
    house.assert_balanced(0);
}

#[tokio::test(start_paused = true)]
async fn while_calls_come_back_nobody_is_told_that_its_turn_cannot_come() {
    let house = House::new(QuotaSettings::default());
    let edge = Arc::new(Edge::default());
    let since = Instant::now();
    let call = || {
        let (house, edge) = (house.clone(), Arc::clone(&edge));
        async move { house.call_edge(&edge, since).await }
    };
    for _ in 0..20 {
        assert_eq!(
            call().await,
            End::Served,
            "it is known how long a call takes"
        );
    }
    for _ in 0..3 {
        house.hears(Some(Cause::Maintenance)).await;
        sleep(500 * MS).await;
    }
    sleep(500 * MS).await;
    // One goes to see and the others wait; a few later there are two places for all of them, so that
    // by the calls under way the last would be served after the 10 s that it may wait.
    let waiting: Vec<_> = (0..400).map(|_| tokio::spawn(call())).collect();
    sleep(SERVICE + MS).await;
    assert_eq!(house.look().circuit, CircuitState::Rising(2));
    let late = all((0..20).map(|_| call())).await;
    assert_eq!(late, [End::Served; 20]);
    for call in waiting {
        assert_eq!(call.await.unwrap(), End::Served);
    }
}

fn unknown_after(answers: u32) -> Config {
    let settings = CircuitSettings {
        unknown_after: answers,
        ..CircuitSettings::default()
    };
    Config {
        circuit: Circuit {
            settings,
            ..Circuit::default()
        },
        ..config(QuotaSettings::default())
    }
}

#[tokio::test(start_paused = true)]
async fn a_domain_that_kintone_knows_no_more_is_closed_until_it_is_confirmed() {
    let house = House::with(&unknown_after(3));
    let unknown = Some(Cause::AccountUnknown);
    for _ in 0..2 {
        house.hears(unknown).await;
        sleep(Duration::from_secs(30)).await;
    }
    house.hears(None).await;
    assert_eq!(house.quotas.closures(), [], "a success lies between");
    for _ in 0..2 {
        house.hears(unknown).await;
        sleep(Duration::from_secs(30)).await;
    }
    // Whoever waits at that moment is told too.
    let last = house.admit("t", CALL).await.expect("not closed yet");
    let mut held = Vec::new();
    while house.look().in_flight < 80 {
        held.push(house.admit("t", CALL).await.expect("a permit is free"));
    }
    let waiting = tokio::spawn({
        let house = house.clone();
        async move { house.admit("t", CALL).await.map(drop) }
    });
    breathe().await;
    let mut last = last;
    last.sent();
    last.failed(None, None, unknown);
    last.finish();
    assert_eq!(waiting.await.unwrap(), Err(Denial::AccountUnknown));
    drop(held);
    for mode in [Mode::Forward, Mode::Inspect, Mode::Tunnel] {
        let denied = house.admit("t", Wish { mode, ..CALL }).await;
        assert_eq!(denied.unwrap_err(), Denial::AccountUnknown);
    }
    assert_eq!(house.look().circuit, CircuitState::Unknown);
    let closures = house.quotas.closures();
    assert_eq!(closures.len(), 1);
    assert_eq!(closures[0].account, "acme.cybozu.com");
    assert_eq!(closures[0].answers, 3);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(house.look().circuit, CircuitState::Unknown, "not forgotten");
    assert!(house.quotas.confirm(&house.account));
    assert!(!house.quotas.confirm(&house.account), "it is confirmed");
    house.hears(None).await;
    assert_eq!(house.quotas.closures(), []);
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_it_closed_and_a_new_table_opens_it() {
    let mut config = unknown_after(3);
    let account = Account::from_normal("acme.cybozu.com");
    config.circuit.tables.insert(account.clone(), "one".into());
    let closure = |table: Option<&str>| Closure {
        account: account.to_string(),
        closed_at: jiff::Timestamp::UNIX_EPOCH,
        answers: 3,
        table: table.map(Into::into),
    };
    let house = House::with(&config);
    house
        .quotas
        .close_again(vec![closure(Some("one"))], &config);
    assert_eq!(
        house.admit("t", CALL).await.unwrap_err(),
        Denial::AccountUnknown
    );
    house.quotas.reload(&config);
    assert_eq!(house.look().circuit, CircuitState::Unknown, "nothing new");
    let mut gone = config.clone();
    gone.circuit.tables.clear();
    house.quotas.reload(&gone);
    assert_eq!(
        house.look().circuit,
        CircuitState::Unknown,
        "nobody says so"
    );
    config.circuit.tables.insert(account.clone(), "two".into());
    house.quotas.reload(&config);
    assert!(house.admit("t", CALL).await.is_ok());
    // The same between two processes.
    let next = House::with(&config);
    next.quotas.close_again(vec![closure(None)], &config);
    assert!(next.admit("t", CALL).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn where_kintone_knows_many_no_more_only_a_few_are_closed() {
    let mut house = House::with(&unknown_after(1));
    let mut settings = unknown_after(1);
    settings.circuit.settings.unknown_over = Duration::ZERO;
    house.quotas.reload(&settings);
    for number in 0..20 {
        house.account = Account::from_normal(&format!("customer-{number}.cybozu.com"));
        house.hears(Some(Cause::AccountUnknown)).await;
    }
    assert_eq!(house.quotas.closures().len(), 5);
}
