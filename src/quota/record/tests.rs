//! Every way in which a process or a machine can end, at every store.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::boot::Boot;
use super::file::RecordError;
use super::layout::{self, BootId, Damage, Entry, MachineId, SLOTS, SlotNumber, Stamp, Words};
use super::log::{Line, Log};
use super::takeover::{Found, Takeover};
use super::{Opened, Priority};

/// The kernel's page cache, and what of it is on disk; it outlives the process that stores.
#[derive(Default)]
struct Memory {
    cache: RefCell<BTreeMap<usize, u64>>,
    disk: RefCell<BTreeMap<usize, u64>>,
    /// Stores until the process is killed.
    life: Cell<u64>,
}

/// Words of a page, which reaches the disk whole.
const PAGE: usize = 512;

impl Words for Rc<Memory> {
    fn load(&self, index: usize) -> u64 {
        self.cache.borrow().get(&index).copied().unwrap_or(0)
    }

    fn store(&self, index: usize, word: u64) {
        if self.life.get() > 0 {
            self.life.set(self.life.get() - 1);
            self.cache.borrow_mut().insert(index, word);
        }
    }

    fn sync(&self) -> std::io::Result<()> {
        if self.life.get() > 0 {
            *self.disk.borrow_mut() = self.cache.borrow().clone();
        }
        Ok(())
    }
}

impl Memory {
    fn is_dead(&self) -> bool {
        self.life.get() == 0
    }

    /// The power fails: of each page the disk has what was synced or what was stored last.
    fn lose_power(&self, written_back: impl Fn(usize) -> bool) {
        let mut disk = self.disk.borrow().clone();
        for (&index, &word) in &*self.cache.borrow() {
            if written_back(index / PAGE) {
                disk.insert(index, word);
            }
        }
        self.disk.replace(disk.clone());
        self.cache.replace(disk);
    }
}

fn boot(number: u64, up_ms: u64) -> Boot {
    Boot {
        id: BootId([number, !number]),
        machine: Some(MachineId([7, 0])),
        up: Duration::from_millis(up_ms),
    }
}

fn elsewhere(boot: Boot) -> Boot {
    let machine = Some(MachineId([8, boot.id.0[0]]));
    Boot { machine, ..boot }
}

fn stamp(up_ms: u64) -> Stamp {
    Stamp(up_ms * 1_000_000)
}

fn empty(boot: Boot) -> Rc<Memory> {
    let memory = Memory::default();
    memory.life.set(u64::MAX);
    let memory = Rc::new(memory);
    layout::begin(&memory, boot.id, None);
    memory.sync().expect("it lives");
    memory
}

fn open(memory: &Rc<Memory>, boot: Boot) -> (Log<Rc<Memory>>, Takeover) {
    let opened = Log::open(Rc::clone(memory), boot).expect("no disk");
    opened.expect("a sound record")
}

const ENTRY: Entry<'static> = Entry {
    account: "acme.cybozu.com",
    tenant: "company-1",
    priority: Priority::Batch,
    permits: 3,
};

#[test]
fn a_killed_process_leaves_its_calls_and_their_times() {
    let memory = empty(boot(1, 0));
    let (log, _) = open(&memory, boot(1, 0));
    let [running, aborted, ended] = [0; 3].map(|_| log.begin(&ENTRY));
    log.abort(aborted, stamp(400));
    log.end(ended);
    log.resize(running, 2);
    let (_, takeover) = open(&memory, boot(1, 1000));
    assert_eq!(
        (&takeover.found, takeover.unknown),
        (&Found::SameBoot, None)
    );
    let calls: Vec<_> = takeover
        .calls
        .iter()
        .map(|call| (call.call.permits, call.age.as_millis()))
        .collect();
    assert_eq!(calls, [(3, 600), (2, 0)]);
    let call = &takeover.calls[0].call;
    assert_eq!(call.account.as_str(), ENTRY.account);
    assert_eq!(
        (call.tenant.as_str(), call.priority),
        ("company-1", Priority::Batch)
    );
    // The next process finds the times of that start, not of its own.
    let (_, takeover) = open(&memory, boot(1, 1500));
    let ages: Vec<_> = takeover
        .calls
        .iter()
        .map(|call| call.age.as_millis())
        .collect();
    assert_eq!(ages, [1100, 500]);
}

#[test]
fn after_a_power_loss_nothing_is_known_until_the_boot_and_the_uptime_counts() {
    let memory = empty(boot(1, 0));
    let (log, _) = open(&memory, boot(1, 0));
    log.begin(&ENTRY);
    let (log, takeover) = open(&memory, boot(2, 30_000));
    assert_eq!(takeover.found, Found::PowerLoss);
    assert!(takeover.calls.is_empty());
    let since_boot = |takeover: Takeover| takeover.unknown.expect("unknown").as_millis();
    assert_eq!(since_boot(takeover), 29_999);
    // A crash while calls still wait does not end the wait.
    log.begin(&ENTRY);
    let (_, takeover) = open(&memory, boot(2, 31_000));
    assert_eq!(takeover.calls.len(), 1);
    assert_eq!(since_boot(takeover), 30_999);
}

#[test]
fn a_closed_record_outlives_the_machine() {
    let memory = empty(boot(1, 0));
    let (log, _) = open(&memory, boot(1, 0));
    let aborted = log.begin(&ENTRY);
    log.abort(aborted, stamp(900));
    log.close().expect("no disk");
    memory.lose_power(|_| false);
    let (_, takeover) = open(&memory, boot(2, 5000));
    assert_eq!((&takeover.found, takeover.unknown), (&Found::Closed, None));
    let ages: Vec<_> = takeover
        .calls
        .iter()
        .map(|call| call.age.as_secs_f64().round())
        .collect();
    assert_eq!(
        ages,
        [5.0],
        "it was aborted before this boot, at the latest"
    );
    // And it is not closed any more, on disk either.
    memory.lose_power(|_| false);
    assert_eq!(open(&memory, boot(3, 0)).1.found, Found::PowerLoss);
}

#[test]
fn on_another_machine_the_uptime_says_nothing() {
    let nameless = |boot| Boot {
        machine: None,
        ..boot
    };
    for moved in [elsewhere(boot(2, 90_000)), nameless(boot(2, 90_000))] {
        let memory = empty(boot(1, 0));
        open(&memory, boot(1, 0)).0.begin(&ENTRY);
        let (log, takeover) = open(&memory, moved);
        assert_eq!(
            (takeover.found, takeover.unknown),
            (Found::Moved, Some(Duration::ZERO))
        );
        log.know_all();
        log.begin(&ENTRY);
        log.close().expect("no disk");
        let (_, takeover) = open(&memory, nameless(boot(3, 90_000)));
        assert_eq!((takeover.found, takeover.unknown), (Found::Closed, None));
        assert_eq!(takeover.calls[0].age, Duration::ZERO);
    }
}

#[test]
fn calls_that_find_no_slot_are_counted_and_doubted() {
    let memory = empty(boot(1, 0));
    let (log, _) = open(&memory, boot(1, 0));
    let long = "x".repeat(300);
    let nameless = Entry {
        account: &long,
        ..ENTRY
    };
    let line = log.begin(&nameless);
    log.abort(line, stamp(1));
    assert_eq!(open(&memory, boot(1, 7000)).1.unknown, Some(Duration::ZERO));
    let memory = empty(boot(1, 0));
    let (log, _) = open(&memory, boot(1, 0));
    for _ in 0..SLOTS {
        log.begin(&ENTRY);
    }
    let (one, other) = (log.begin(&ENTRY), log.begin(&nameless));
    log.end(other);
    log.end(one);
    assert_eq!(
        open(&memory, boot(1, 9)).1.unknown,
        None,
        "none in flight without a slot"
    );
    let (log, _) = open(&memory, boot(1, 9));
    log.begin(&ENTRY);
    let (_, takeover) = open(&memory, boot(1, 20));
    assert_eq!(takeover.unknown, Some(Duration::ZERO));
    assert_eq!(takeover.calls.len(), SLOTS as usize);
}

#[test]
fn what_makes_no_sense_is_named() {
    let refused = |change: &dyn Fn(&Rc<Memory>)| {
        let memory = empty(boot(1, 0));
        open(&memory, boot(1, 0)).0.begin(&ENTRY);
        change(&memory);
        let opened = Log::open(memory, boot(1, 1)).expect("no disk");
        opened.err().expect("refused").to_string()
    };
    assert_eq!(
        refused(&|memory| memory.store(0, 7)),
        "it is not a flight record"
    );
    let version = refused(&|memory| memory.store(1, 9 << 32));
    assert_eq!(version, "it has layout 9, and this version reads 1");
    for (word, garbage) in [(0, 7), (0, u64::MAX), (0, 1 << 32), (2, u64::MAX)] {
        let told = refused(&|memory| memory.store(PAGE + word, garbage));
        assert_eq!(told, "its slot 0 makes no sense");
    }
}

/// What a test does to a record.
#[derive(Debug, Clone)]
enum Act {
    Begin(u8),
    Abort(u8),
    End(u8),
    Resize(u8),
    Close,
    Restart,
    LosePower(u64),
    /// The same, and the disk goes to another machine.
    Move(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => any::<u8>().prop_map(Act::Begin),
        2 => any::<u8>().prop_map(Act::Abort),
        4 => any::<u8>().prop_map(Act::End),
        1 => any::<u8>().prop_map(Act::Resize),
        1 => Just(Act::Close),
        1 => Just(Act::Restart),
        1 => any::<u64>().prop_map(Act::LosePower),
        1 => any::<u64>().prop_map(Act::Move),
    ]
}

/// A call, as the test knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    account: String,
    permits: u32,
    /// In its boot; `None`: it runs.
    aborted_at: Option<Stamp>,
}

/// The world around the record: it knows the truth.
struct World {
    memory: Rc<Memory>,
    boot: u64,
    machine: u64,
    up_ms: u64,
    log: Option<Log<Rc<Memory>>>,
    /// What is in flight for certain, by where it is written down.
    calls: HashMap<u32, Call>,
    /// What the process was about to change when it was killed: both states are right.
    doubtful: Option<(Option<Call>, Option<Call>)>,
    /// Since when calls may be in flight that the record cannot know.
    unknown_since: Option<Stamp>,
    is_closed: bool,
    begun: u32,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            memory: empty(boot(1, 1)),
            boot: 1,
            machine: 0,
            up_ms: 1,
            log: None,
            calls: HashMap::new(),
            doubtful: None,
            unknown_since: None,
            is_closed: false,
            begun: 0,
        };
        world.start(u64::MAX);
        world
    }

    fn now(&self) -> Boot {
        Boot {
            machine: Some(MachineId([1, self.machine])),
            ..boot(self.boot, self.up_ms)
        }
    }

    /// A process starts, and lives for so many stores.
    fn start(&mut self, life: u64) {
        self.up_ms += 10;
        self.memory.life.set(life);
        let (log, takeover) = open(&self.memory, self.now());
        self.log = Some(log);
        if self.memory.is_dead() {
            // It admitted nothing, and what it would have concluded counts for nobody.
            return;
        }
        self.judge(&takeover);
        self.is_closed = false;
    }

    /// What a start must conclude, to the letter.
    fn judge(&mut self, takeover: &Takeover) {
        let now = self.now();
        if let Some(unknown_since) = self.unknown_since {
            let age = takeover.unknown.expect("the wait is not forgotten");
            assert!(age <= now.since(unknown_since), "the wait is not shortened");
        }
        let mut found: HashMap<u32, Call> = HashMap::new();
        for inherited in &takeover.calls {
            let written = layout::read(&self.memory, inherited.slot).expect("sound");
            let aborted_at = written.expect("it stays written down").aborted_at;
            assert_eq!(inherited.age, now.since(aborted_at.expect("none runs")));
            let call = Call {
                account: inherited.call.account.as_str().to_owned(),
                permits: inherited.call.permits,
                aborted_at,
            };
            found.insert(inherited.slot.0, call);
        }
        let mut expected = std::mem::take(&mut self.calls);
        for (slot, call) in &found {
            if let Some(known) = expected.remove(slot) {
                let exact = (&known.account, known.permits) == (&call.account, call.permits);
                let is_settled_no_sooner = known.aborted_at <= call.aborted_at;
                if exact && is_settled_no_sooner {
                    continue;
                }
                panic!("{known:?} became {call:?}");
            }
            let doubtful = self.doubtful.as_ref().expect("no call out of nothing");
            let names = [&doubtful.0, &doubtful.1].map(|one| one.as_ref().map(|one| &one.account));
            assert!(
                names.contains(&Some(&call.account)),
                "{call:?}: {doubtful:?}"
            );
        }
        assert!(
            expected.is_empty() || takeover.unknown.is_some(),
            "lost: {expected:?}"
        );
        self.calls = found;
        self.doubtful = None;
    }

    /// Does something to the call at `index`, with which the process may be killed half-way.
    fn change(&mut self, index: u8, act: impl FnOnce(&Log<Rc<Memory>>, Line, &mut Option<Call>)) {
        let mut slots: Vec<_> = self.calls.keys().copied().collect();
        slots.sort_unstable();
        if slots.is_empty() {
            return;
        }
        let slot = slots[usize::from(index) % slots.len()];
        let before = self.calls.remove(&slot);
        let mut after = before.clone();
        let log = self.log.as_ref().expect("a process");
        act(log, Line(SlotNumber(slot)), &mut after);
        if self.memory.is_dead() {
            self.doubtful = Some((before, after));
        } else if let Some(after) = after {
            self.calls.insert(slot, after);
        }
    }

    fn begin(&mut self, permits: u32) {
        self.begun += 1;
        let account = format!("account-{}.cybozu.com", self.begun);
        let entry = Entry {
            account: &account,
            permits,
            ..ENTRY
        };
        let line = self.log.as_ref().expect("a process").begin(&entry);
        let call = Call {
            account,
            permits,
            aborted_at: None,
        };
        if self.memory.is_dead() {
            self.doubtful = Some((None, Some(call)));
        } else {
            self.calls.insert(line.0.0, call);
        }
    }

    fn close(&mut self) {
        self.log
            .as_ref()
            .expect("a process")
            .close()
            .expect("no disk");
        self.is_closed = !self.memory.is_dead();
    }

    /// The power fails. On the same machine all calls were sent before the next boot began; on another
    /// one, which may have been up for long, before now.
    fn lose_power(&mut self, act: &Act) {
        let (Act::LosePower(pages) | Act::Move(pages)) = *act else {
            return;
        };
        self.memory.lose_power(|page| pages >> (page % 64) & 1 == 1);
        self.boot += 1;
        self.up_ms = 1;
        let mut last = Stamp(1);
        if matches!(act, Act::Move(_)) {
            self.machine += 1;
            self.up_ms = 10_000_000;
            last = stamp(self.up_ms);
        }
        if !self.is_closed {
            self.unknown_since = Some(last);
            self.calls.clear();
            self.doubtful = None;
        }
        for call in self.calls.values_mut() {
            call.aborted_at = Some(last);
        }
        if self.unknown_since.is_some() {
            self.unknown_since = Some(last);
        }
    }

    /// One step; the process may be killed after so many stores of it.
    fn act(&mut self, act: &Act) {
        self.up_ms += 1;
        if self.is_closed && !matches!(act, Act::Restart | Act::LosePower(_) | Act::Move(_)) {
            return;
        }
        let at = Stamp(u64::try_from(self.now().up.as_nanos()).expect("small"));
        match *act {
            Act::Begin(permits) => self.begin(u32::from(permits) + 1),
            Act::Abort(index) => self.change(index, |log, line, call| {
                let call = call.as_mut().expect("in flight");
                if call.aborted_at.is_none() {
                    log.abort(line, at);
                    call.aborted_at = Some(at);
                }
            }),
            Act::End(index) => self.change(index, |log, line, call| {
                log.end(line);
                *call = None;
            }),
            Act::Resize(index) => self.change(index, |log, line, call| {
                log.resize(line, 1);
                call.as_mut().expect("in flight").permits = 1;
            }),
            Act::Close => self.close(),
            Act::Restart | Act::LosePower(_) | Act::Move(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a process did, and at whichever store it or the power was cut, during the start too:
    /// the next start takes over every call that is in flight, none that is not, and forgets no wait.
    #[test]
    fn no_call_is_lost_at_any_store(
        acts in prop::collection::vec((act(), prop::option::weighted(0.2, 0_u64..12)), 1..60),
    ) {
        let mut world = World::new();
        for (act, cut) in acts {
            let ends = matches!(act, Act::Restart | Act::LosePower(_) | Act::Move(_));
            if !ends {
                world.memory.life.set(cut.unwrap_or(u64::MAX));
                world.act(&act);
            }
            if ends || world.memory.is_dead() {
                world.lose_power(&act);
                world.up_ms += 1;
                // A start that is cut too, and then one that is not.
                if let (true, Some(cut)) = (ends, cut) {
                    world.start(cut);
                }
                world.start(u64::MAX);
            }
        }
        world.start(u64::MAX);
    }
}

fn real_boot(dir: &std::path::Path, id: &str, up: &str) -> Boot {
    let random = dir.join("proc/sys/kernel/random");
    fs::create_dir_all(&random).expect("writable");
    fs::write(random.join("boot_id"), format!("{id}\n")).expect("writable");
    fs::write(dir.join("proc/uptime"), format!("{up} 1.00\n")).expect("writable");
    Boot::read(dir).expect("as the kernel writes it")
}

const BOOT_ID: &str = "5e1bd66b-9dca-4eca-90f0-7cbc3f8e5aad";

#[test]
fn the_kernel_is_understood_and_its_silence_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let read = real_boot(dir.path(), BOOT_ID, "642.30");
    assert_eq!(read.machine, None);
    let machine = "0123456789abcdef0000000000000010\n";
    fs::create_dir(dir.path().join("etc")).expect("writable");
    fs::write(dir.path().join("etc/machine-id"), machine).expect("writable");
    let named = Boot::read(dir.path()).expect("as before");
    assert_eq!(named.machine, Some(MachineId([0x0123_4567_89ab_cdef, 16])));
    assert_eq!(
        read.id,
        BootId([0x5e1b_d66b_9dca_4eca, 0x90f0_7cbc_3f8e_5aad])
    );
    assert_eq!(read.up, Duration::from_millis(642_300));
    let here = Boot::read("/".as_ref()).expect("Linux");
    assert!(Stamp::now() >= here.now());
    let told = Boot::read(&dir.path().join("none")).expect_err("nothing there");
    assert!(told.to_string().contains("ProcSubset=pid"), "{told}");
    for (id, up) in [("", "1.0"), ("no", "1.0"), (BOOT_ID, ""), (BOOT_ID, "-1 0")] {
        fs::write(dir.path().join("proc/sys/kernel/random/boot_id"), id).expect("writable");
        fs::write(dir.path().join("proc/uptime"), up).expect("writable");
        assert!(Boot::read(dir.path()).is_err(), "{id:?} {up:?}");
    }
}

#[test]
fn a_directory_belongs_to_one_process_and_remembers_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let boot = real_boot(dir.path(), BOOT_ID, "100.00");
    let state = dir.path().join("state");
    let first = Opened::open(&state, boot).expect("a new directory");
    assert_eq!((first.found(), first.unknown), (&Found::Nothing, None));
    let busy = Opened::open(&state, boot).expect_err("it is taken");
    assert!(matches!(busy, RecordError::InUse { .. }));
    let told = busy.to_string();
    let me = format!("process {};", std::process::id());
    assert!(
        told.contains(&me) && told.contains("end that one first"),
        "{told}"
    );
    drop(first);
    let again = Opened::open(&state, boot).expect("it is free");
    assert_eq!((again.found(), again.unknown), (&Found::SameBoot, None));
    drop(again);
    fs::remove_file(state.join("flight")).expect("there");
    let missing = Opened::open(&state, boot).expect("a new record");
    assert_eq!(
        (missing.found(), missing.unknown),
        (&Found::Missing, Some(Duration::ZERO))
    );
    // And the wait is not forgotten by another start.
    drop(missing);
    let later = real_boot(dir.path(), BOOT_ID, "107.00");
    let again = Opened::open(&state, later).expect("it is free");
    assert_eq!(again.unknown, Some(Duration::from_secs(7)));
}

#[test]
fn a_file_that_is_no_record_is_kept_aside() {
    let dir = tempfile::tempdir().expect("a folder");
    let boot = real_boot(dir.path(), BOOT_ID, "100.00");
    drop(Opened::open(dir.path(), boot).expect("a new directory"));
    let flight = dir.path().join("flight");
    let sound = fs::read(&flight).expect("there");
    let mut strange = sound.clone();
    strange[..8].fill(b'?');
    for (bytes, damage) in [
        (&sound[..4096], "it has 4096 bytes instead of 16781312"),
        (&[], "it has 0 bytes instead of 16781312"),
        (&strange[..], "it is not a flight record"),
    ] {
        fs::write(&flight, bytes).expect("writable");
        let opened = Opened::open(dir.path(), boot).expect("a new record");
        let Found::Damaged(found) = opened.found() else {
            panic!("{:?}", opened.found());
        };
        assert_eq!(found.to_string(), damage);
        assert_eq!(opened.unknown, Some(Duration::ZERO));
        assert_eq!(
            fs::read(dir.path().join("flight.damaged")).expect("kept"),
            bytes
        );
    }
    assert_ne!(Damage::Strange, Damage::Slot { slot: 0 });
}

#[test]
fn calls_come_back_from_the_real_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let boot = real_boot(dir.path(), BOOT_ID, "100.00");
    let first = Opened::open(dir.path(), boot).expect("a new directory");
    let first = first.into_record();
    let account = crate::model::Account::from_normal("acme.cybozu.com");
    let tenant = crate::model::Tenant::parse("company-1").expect("a name");
    let lines: Vec<_> = (1..=3)
        .map(|permits| first.begin(&account, &tenant, Priority::Interactive, permits))
        .collect();
    first.end(lines[0]);
    // No close: as if the process were killed here.
    drop(first);
    let mut next = Opened::open(dir.path(), boot).expect("it is free");
    assert_eq!(next.permits(), 5);
    assert!(
        next.calls
            .iter()
            .all(|call| call.account == account && call.tenant == tenant)
    );
    let calls = std::mem::take(&mut next.calls);
    let next = next.into_record();
    for call in &calls {
        next.end(call.line);
    }
    next.close().expect("a disk");
    drop(next);
    let other = real_boot(dir.path(), &BOOT_ID.replace('5', "6"), "3.00");
    let after = Opened::open(dir.path(), other).expect("it is free");
    assert_eq!(
        (after.found(), after.unknown, after.permits()),
        (&Found::Closed, None, 0)
    );
}
