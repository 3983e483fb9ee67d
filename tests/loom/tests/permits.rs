//! What must hold of the permits of one account in whatever order threads meet, and that each check
//! would notice a mistake.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(
    clippy::print_stdout,
    reason = "figures that were measured are shown by --nocapture"
)]

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kintone_egress_loom::config::Config;
use kintone_egress_loom::config::file::{Environment, parse};
use kintone_egress_loom::model::{Account, CallerName, Denial, Mode, Priority};
use kintone_egress_loom::quota::{Ask, Balance, Loan, Permit, Quotas, Share, Term};
use kintone_egress_loom::{alarm, broken};
use loom::future::block_on;
use loom::thread::{self, JoinHandle};

/// Stack of a thread, in words: loom's own 32 KiB are too few for a test that is not optimised.
const STACK: usize = 1 << 16;
/// Nobody knows what a share is before it is set.
const UNTOLD: u32 = u32::MAX;

/// An account with a few permits, and who holds them.
#[derive(Clone)]
struct House {
    quotas: Quotas,
    account: Account,
    caller: CallerName,
    holders: Arc<AtomicU32>,
}

/// A call that waits.
type Waiting = Pin<Box<dyn Future<Output = Result<Permit, Denial>> + Send>>;

impl House {
    fn new(permits: u32) -> Self {
        static CONFIGS: [OnceLock<Config>; 3] = [const { OnceLock::new() }; 3];
        let config = CONFIGS[permits as usize].get_or_init(|| {
            let text = format!(
                "[[egress.address]]\npublished = \"18.177.83.94\"\n[callers]\nanonymous = true\n\
                 [quota]\nconcurrency = {}\nheadroom = 2\ninteractive_reserve = 0\n",
                permits + 2
            );
            let loaded = parse(&text, Path::new("loom.toml"), &Environment::default());
            loaded.unwrap_or_else(|faults| panic!("{faults}")).config
        });
        Self {
            quotas: Quotas::new(config),
            account: Account::from_normal("acme.cybozu.com"),
            caller: CallerName::parse("events").unwrap(),
            holders: Arc::default(),
        }
    }

    fn ask(&self) -> Waiting {
        let house = self.clone();
        Box::pin(async move {
            let ask = Ask {
                account: &house.account,
                mode: Mode::Forward,
                tenant: None,
                caller: &house.caller,
                priority: Priority::Interactive,
                caller_wait: None,
                call_wait: None,
                weight: 1,
                term: Term::Short,
            };
            house.quotas.admit(ask).await
        })
    }

    /// A permit that is there.
    fn take(&self) -> Permit {
        match poll_once(&mut self.ask()) {
            Poll::Ready(admitted) => admitted.unwrap(),
            Poll::Pending => panic!("there is no free permit"),
        }
    }

    /// A call that has asked in vain.
    fn line_up(&self) -> Waiting {
        let mut waiting = self.ask();
        assert!(poll_once(&mut waiting).is_pending());
        waiting
    }

    /// A call from its beginning to its end. It looks how many hold a permit with it.
    fn call(&self, look: impl FnOnce(u32)) {
        let permit = block_on(self.ask()).unwrap();
        self.holders.fetch_add(1, Ordering::Relaxed);
        thread::yield_now();
        look(self.holders.load(Ordering::Relaxed));
        self.holders.fetch_sub(1, Ordering::Relaxed);
        permit.finish();
    }

    fn set_share(&self, own: u32, lent: u32) -> u32 {
        let loan = Loan {
            permits: lent,
            until: Duration::MAX,
        };
        let loans = (lent > 0).then_some(loan).into_iter().collect();
        self.quotas.set_share(&self.account, Share { own, loans })
    }

    /// So many permits were granted, all are back, and one can be had.
    fn is_at_rest_after(&self, granted: u64) {
        let Balance { acquired, held, .. } = self.quotas.balance();
        assert_eq!((acquired, held), (granted, 0));
        self.take().finish();
    }
}

fn poll_once(waiting: &mut Waiting) -> Poll<Result<Permit, Denial>> {
    let mut context = Context::from_waker(Waker::noop());
    waiting.as_mut().poll(&mut context)
}

fn spawn(run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = thread::Builder::new().stack_size(STACK);
    builder.spawn(run).unwrap()
}

fn join<const CALLS: usize>(calls: [JoinHandle<()>; CALLS]) {
    for call in calls {
        call.join().unwrap();
    }
}

/// Runs `scene` in every order in which its threads can meet, but for those in which threads are put
/// aside, though they could go on, more than twice; with `MODEL_EFFORT`, more than four times, as far as
/// that comes in ten minutes.
fn explore(scene: fn()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    // The clock stands still: loom's runs must be alike.
    let _guard = runtime.enter();
    let mut model = loom::model::Builder::new();
    let is_long = std::env::var_os("MODEL_EFFORT").is_some();
    model.preemption_bound = Some(if is_long { 4 } else { 2 });
    model.max_branches = 10_000;
    model.max_duration = is_long.then_some(Duration::from_secs(600));
    let runs = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&runs);
    model.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        spawn(scene).join().unwrap();
    });
    println!("{} orders", runs.load(Ordering::Relaxed));
}

#[test]
fn never_more_hold_a_permit_than_there_are() {
    explore(|| {
        let house = House::new(1);
        let calls = [(); 2].map(|()| {
            let house = house.clone();
            spawn(move || house.call(|holders| assert!(holders <= 1, "{holders} at once")))
        });
        house.call(|holders| assert!(holders <= 1, "{holders} at once"));
        join(calls);
        house.is_at_rest_after(3);
    });
}

#[test]
fn a_call_that_leaves_as_it_is_granted_takes_no_permit_with_it() {
    explore(|| {
        let house = House::new(1);
        let (held, leaving) = (house.take(), house.line_up());
        let other = house.clone();
        let calls = [
            spawn(move || held.finish()),
            spawn(move || drop(leaving)),
            spawn(move || other.call(|_| {})),
        ];
        join(calls);
        let granted = house.quotas.balance().acquired;
        assert!((2..=3).contains(&granted), "{granted}");
        house.is_at_rest_after(granted);
    });
}

#[test]
fn a_call_at_its_deadline_is_granted_or_refused_and_not_both() {
    explore(|| {
        let house = House::new(1);
        let held = house.take();
        let waiting = house.line_up();
        let calls = [spawn(move || held.finish()), spawn(alarm::ring)];
        let granted = match block_on(waiting) {
            Ok(permit) => {
                permit.finish();
                2
            }
            Err(denial) => {
                assert!(matches!(denial, Denial::WaitExceeded(_)), "{denial:?}");
                1
            }
        };
        join(calls);
        house.is_at_rest_after(granted);
    });
}

#[test]
fn what_is_lent_is_not_begun_on_once_it_is_told() {
    explore(|| {
        let house = House::new(2);
        house.set_share(2, 0);
        let told = Arc::new(AtomicU32::new(UNTOLD));
        let calls = [(); 2].map(|()| {
            let (house, told) = (house.clone(), Arc::clone(&told));
            spawn(move || {
                house.call(|holders| {
                    let most = told.load(Ordering::Relaxed).max(1);
                    assert!(holders <= most, "{holders} at once, {most} told");
                });
            })
        });
        told.store(house.set_share(1, 0), Ordering::Relaxed);
        join(calls);
        house.is_at_rest_after(2);
    });
}

#[test]
fn who_waits_for_what_was_lent_goes_when_it_is_back() {
    explore(|| {
        let house = House::new(2);
        house.set_share(0, 0);
        let calls = [(); 2].map(|()| {
            let house = house.clone();
            spawn(move || house.call(|_| {}))
        });
        house.set_share(1, 0);
        join(calls);
        house.is_at_rest_after(2);
    });
}

#[test]
fn nothing_goes_on_a_loan_that_is_over_and_what_did_not_goes_on_the_next() {
    explore(|| {
        let house = House::new(2);
        house.set_share(0, 2);
        let is_over = Arc::new(AtomicU32::new(0));
        let calls = [(); 2].map(|()| {
            let (house, is_over) = (house.clone(), Arc::clone(&is_over));
            spawn(move || {
                let mut permit = block_on(house.ask()).unwrap();
                loop {
                    thread::yield_now();
                    let was_over = is_over.load(Ordering::Relaxed) == 1;
                    if permit.sent().is_none_or(|fence| fence()) {
                        let still = is_over.load(Ordering::Relaxed) == 1;
                        assert!(!(was_over && still), "it went after the loan was over");
                        break permit.finish();
                    }
                    permit.not_sent();
                    permit = block_on(permit.renew()).unwrap();
                }
            })
        });
        house.set_share(0, 0);
        is_over.store(1, Ordering::Relaxed);
        thread::yield_now();
        is_over.store(0, Ordering::Relaxed);
        house.set_share(1, 0);
        join(calls);
        let Balance { acquired, held, .. } = house.quotas.balance();
        assert!(
            (2..=4).contains(&acquired) && held == 0,
            "{acquired} {held}"
        );
        house.take().finish();
    });
}

/// Each mutant and the test above that must notice it.
const NOTICED: &[(&str, &str)] = &[
    (
        "a permit is counted after it was looked for, under another lock",
        "never_more_hold_a_permit_than_there_are",
    ),
    (
        "a permit whose taker has just left is lost",
        "a_call_that_leaves_as_it_is_granted_takes_no_permit_with_it",
    ),
    (
        "a call granted at its deadline is refused",
        "a_call_at_its_deadline_is_granted_or_refused_and_not_both",
    ),
    (
        "nobody is woken for what has become free",
        "who_waits_for_what_was_lent_goes_when_it_is_back",
    ),
    (
        "what is in use is told as it was before the share changed",
        "what_is_lent_is_not_begun_on_once_it_is_told",
    ),
    (
        "the fence is always open",
        "nothing_goes_on_a_loan_that_is_over_and_what_did_not_goes_on_the_next",
    ),
];

/// Each runs in a process of its own: a run that loom breaks off cannot be gone on with.
#[test]
fn every_mutant_is_noticed() {
    let names: Vec<_> = NOTICED.iter().map(|(mutant, _)| *mutant).collect();
    assert_eq!(names, broken::NAMES);
    for (mutant, test) in NOTICED {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(broken::VARIABLE, mutant)
            .env_remove("MODEL_EFFORT")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let why = said.lines().skip_while(|line| !line.contains("panicked"));
        println!("{mutant}: {:?}", why.take(2).last());
        assert!(said.contains("running 1 test"), "{said}");
        assert!(!output.status.success(), "not noticed: {mutant}\n{said}");
    }
}
