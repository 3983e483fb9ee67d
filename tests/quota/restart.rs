//! What an earlier process left at kintone, on paused time.

use std::path::Path;
use std::time::Duration;

use kintone_egress::config::{QuotaSettings, TenantSettings};
use kintone_egress::model::Tenant;
use kintone_egress::quota::{Boot, Found, Opened, Quotas};
use tokio::time::{Instant, sleep};

use crate::house::{BATCH, CALL, House, MS, Wish, config};

/// A machine whose processes come and go.
struct Machine {
    dir: tempfile::TempDir,
    settings: QuotaSettings,
}

impl Machine {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a folder"),
            settings: QuotaSettings {
                interactive_reserve: 0,
                ..QuotaSettings::default()
            },
        }
    }

    /// Starts a process `up_s` after the machine's `boot`-th start.
    fn start(&self, boot: u32, up_s: u64) -> (House, Found) {
        let opened = open(self.dir.path(), boot, up_s);
        let found = opened.found().clone();
        let config = config(self.settings.clone());
        (House::of(Quotas::recorded(&config, opened)), found)
    }
}

fn open(dir: &Path, boot: u32, up_s: u64) -> Opened {
    let random = dir.join("proc/sys/kernel/random");
    std::fs::create_dir_all(&random).expect("writable");
    let id = format!("{boot:08x}-0000-0000-0000-000000000000\n");
    std::fs::write(random.join("boot_id"), id).expect("writable");
    std::fs::write(dir.join("proc/uptime"), format!("{up_s}.00 0.00\n")).expect("writable");
    std::fs::create_dir_all(dir.join("etc")).expect("writable");
    std::fs::write(dir.join("etc/machine-id"), "1f\n").expect("writable");
    let boot = Boot::read(dir).expect("as a kernel says it");
    Opened::open(&dir.join("state"), boot).expect("nobody else has it")
}

/// A process dies: nothing of it does anything any more, and its lock is free. What it held is
/// forgotten in memory, not given back.
fn kill<T>(house: House, held: T, machine: &Machine) {
    house.clockwork.abort();
    std::mem::forget((house, held));
    let lock = machine.dir.path().join("state/lock");
    // The lock hangs on the open file; another file in its place is free.
    std::fs::remove_file(&lock).expect("there");
    std::fs::write(&lock, "1\n").expect("writable");
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_killed_process_keep_their_permits_until_they_have_settled() {
    let machine = Machine::new();
    let (house, found) = machine.start(1, 1000);
    assert_eq!(found, Found::Nothing);
    let mut held = Vec::new();
    for wish in [CALL, BATCH, Wish { weight: 5, ..CALL }] {
        let mut permit = house.admit("company-1", wish).await.expect("room");
        permit.sent();
        held.push(permit);
    }
    held[2].shrink(3);
    house.admit("company-2", CALL).await.expect("room").finish();
    held.push(house.admit("company-2", CALL).await.expect("not sent"));
    kill(house, held, &machine);

    let (house, found) = machine.start(1, 1001);
    assert_eq!(found, Found::SameBoot);
    let account = house.look();
    assert_eq!((account.in_flight, account.settling), (0, 5), "1 + 1 + 3");
    let tenants: Vec<_> = account
        .tenants
        .iter()
        .map(|tenant| (tenant.tenant.as_str(), tenant.in_flight))
        .collect();
    assert_eq!(tenants, [("company-1", 5)]);
    house.assert_balanced(5);
    let mut others = Vec::new();
    for _ in 0..75 {
        let begun = Instant::now();
        others.push(house.admit("company-2", CALL).await.expect("at once"));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
    let none = Wish {
        wait: Some(Duration::ZERO),
        ..CALL
    };
    assert!(house.admit("company-2", none).await.is_err(), "80 of 80");
    drop(others);
    sleep(119_000 * MS).await;
    assert_eq!(house.look().settling, 5);
    sleep(1100 * MS).await;
    assert_eq!(house.look().settling, 0, "settle, from the start on");
    house.assert_balanced(0);
    kill(house, (), &machine);

    let (house, _) = machine.start(1, 1200);
    assert!(house.quotas.snapshot().is_empty(), "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_again_and_again_keeps_the_time_of_the_first_death() {
    let machine = Machine::new();
    let (house, _) = machine.start(1, 1000);
    let mut permit = house.admit("a", CALL).await.expect("room");
    permit.sent();
    kill(house, permit, &machine);
    for up_s in [1000, 1050, 1100] {
        let (house, _) = machine.start(1, up_s);
        assert_eq!(house.look().settling, 1, "at {up_s}");
        kill(house, (), &machine);
    }
    let (house, _) = machine.start(1, 1110);
    sleep(9900 * MS).await;
    assert_eq!(house.look().settling, 1);
    sleep(200 * MS).await;
    assert_eq!(house.look().settling, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_proves_calls_of_a_killed_process_over() {
    let machine = Machine::new();
    let (house, _) = machine.start(1, 1000);
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut permit = house.admit("a", CALL).await.expect("room");
        permit.sent();
        held.push(permit);
    }
    kill(house, held, &machine);
    let (house, _) = machine.start(1, 1001);
    let mut early = house.admit("a", CALL).await.expect("room");
    early.sent();
    early.answered(Some(100), Some(1));
    early.finish();
    assert_eq!(house.look().settling, 10, "some may still be under way");
    sleep(1000 * MS).await;
    let mut permit = house.admit("a", CALL).await.expect("room");
    permit.sent();
    permit.answered(Some(100), Some(4));
    permit.finish();
    assert_eq!(house.look().settling, 3, "four ran, one of them this call");
    kill(house, (), &machine);
    let (house, _) = machine.start(1, 1002);
    assert_eq!(house.look().settling, 3, "and that is written down");
}

#[tokio::test(start_paused = true)]
async fn a_tenants_ceiling_counts_what_it_left() {
    let machine = Machine::new();
    let (house, _) = machine.start(1, 1000);
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut permit = house.admit("company-1", CALL).await.expect("room");
        permit.sent();
        held.push(permit);
    }
    kill(house, held, &machine);
    let mut config = config(machine.settings.clone());
    let ceiling = TenantSettings {
        weight: 1,
        concurrency: Some(4),
        contacts: Vec::new(),
    };
    let tenants = [(Tenant::parse("company-1").expect("a name"), ceiling)];
    let account = kintone_egress::config::AccountSettings {
        enabled: true,
        accepts: Vec::new(),
        probe: None,
        contacts: Vec::new(),
        quota: config.quota.clone(),
        tenants: tenants.into(),
    };
    let acme = kintone_egress::model::Account::from_normal("acme.cybozu.com");
    config.accounts.insert(acme, account);
    let opened = open(machine.dir.path(), 1, 1001);
    let house = House::of(Quotas::recorded(&config, opened));
    let none = Wish {
        wait: Some(Duration::ZERO),
        ..CALL
    };
    let fourth = house.admit("company-1", none).await.expect("the fourth");
    assert!(house.admit("company-1", none).await.is_err(), "the fifth");
    assert!(house.admit("company-2", none).await.is_ok());
    fourth.finish();
}

#[tokio::test(start_paused = true)]
async fn after_a_power_loss_every_account_waits_for_what_is_left_of_settle() {
    let machine = Machine::new();
    let (house, _) = machine.start(1, 1000);
    kill(house, (), &machine);
    let (house, found) = machine.start(2, 40);
    assert_eq!(found, Found::PowerLoss);
    let left = house.quotas.unknown_for().expect("nothing is known");
    assert!(left <= 80_001 * MS && left > 79_000 * MS, "{left:?}");
    let begun = Instant::now();
    assert!(
        house.admit("a", CALL).await.is_err(),
        "it waits 10 s at most"
    );
    assert_eq!(begun.elapsed(), Duration::ZERO, "told at once");
    assert_eq!(house.look().settling, 100, "kintone's whole limit");
    let patient = house.admit("a", BATCH).await.expect("within ten minutes");
    assert!(begun.elapsed() >= 79_000 * MS && begun.elapsed() <= 80_100 * MS);
    assert_eq!(house.quotas.unknown_for(), None);
    assert_eq!(house.look().settling, 0);
    patient.finish();
    house.assert_balanced(0);
    house.quotas.close_record().expect("a disk");
}

#[tokio::test(start_paused = true)]
async fn uptime_counts_and_a_closed_record_costs_no_wait() {
    let machine = Machine::new();
    let (house, _) = machine.start(1, 1000);
    kill(house, (), &machine);
    let (house, _) = machine.start(2, 121);
    assert_eq!(house.quotas.unknown_for(), None);
    house.admit("a", CALL).await.expect("at once").finish();
    let mut aborted = house.admit("a", CALL).await.expect("room");
    aborted.sent();
    drop(aborted);
    house.quotas.close_record().expect("a disk");
    kill(house, (), &machine);
    let (house, found) = machine.start(3, 20);
    assert_eq!((found, house.look().settling), (Found::Closed, 1));
    sleep(99_000 * MS).await;
    assert_eq!(house.look().settling, 1);
    sleep(1100 * MS).await;
    assert_eq!(house.look().settling, 0, "it was aborted before this boot");
}
