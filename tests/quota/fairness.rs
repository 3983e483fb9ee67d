//! Tenants and priorities beside each other.

use std::time::Duration;

use kintone_egress::config::{AccountSettings, QuotaSettings, TenantSettings};
use kintone_egress::quota::{Portion, Share, TenantPortion, TenantSnapshot};
use tokio::time::{Instant, sleep};

use crate::house::{BATCH, CALL, Counts, Dice, House, Kintone, MS, Wish, config, quantile};

/// How long the calls of a flood take.
#[derive(Debug, Clone, Copy)]
enum Service {
    Steady,
    Spread,
}

/// `callers` of one tenant who call again and again.
fn flood(
    house: &House,
    tenant: &'static str,
    wish: Wish,
    callers: u64,
    service: Service,
    mean: Duration,
) {
    let kintone = Kintone::new(Duration::ZERO, Counts::AtAnswer);
    for number in 0..callers {
        let (house, kintone) = (house.clone(), kintone.clone());
        let mut dice = Dice::new(number + 1);
        tokio::spawn(async move {
            loop {
                let service = match service {
                    Service::Steady => mean,
                    Service::Spread => dice.spread(mean),
                };
                if let Ok(permit) = house.admit(tenant, wish).await {
                    let mut permit = permit;
                    permit.sent();
                    let _answer = kintone.execute(service).await;
                    permit.finish();
                } else {
                    sleep(100 * MS).await;
                }
            }
        });
    }
}

/// Five calls a second of 200 ms for a minute: their waits.
async fn light_waits(house: &House, spread: Service) -> Vec<Duration> {
    let mut dice = Dice::new(77);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let house = house.clone();
        calls.spawn(async move {
            let mut permit = house.admit("light", CALL).await.expect("never refused");
            permit.sent();
            sleep(200 * MS).await;
            let waited = permit.waited();
            permit.finish();
            waited
        });
        sleep(match spread {
            Service::Steady => 200 * MS,
            Service::Spread => dice.spread(200 * MS),
        })
        .await;
    }
    calls.join_all().await
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_tenant_does_not_delay_another() {
    for (callers, service, arrivals) in [
        (500, Service::Steady, Service::Steady),
        (500, Service::Steady, Service::Spread),
        (500, Service::Spread, Service::Spread),
        (2080, Service::Spread, Service::Steady),
    ] {
        let house = House::new(QuotaSettings {
            queue: 3000,
            ..QuotaSettings::default()
        });
        flood(&house, "flood", CALL, callers, service, 200 * MS);
        sleep(1000 * MS).await;
        let mut waits = light_waits(&house, arrivals).await;
        let p99 = quantile(&mut waits, 0.99);
        assert!(
            p99 <= 25 * MS,
            "{callers} {service:?} {arrivals:?}: {p99:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_beyond_the_queue_does_not_get_another_tenant_refused() {
    let house = House::new(QuotaSettings::default());
    flood(&house, "flood", CALL, 2080, Service::Spread, 200 * MS);
    sleep(1000 * MS).await;
    let mut waits = light_waits(&house, Service::Steady).await;
    assert!(quantile(&mut waits, 0.99) <= 25 * MS);
    assert!(
        house.look().refused.queue_full > 0,
        "the flood was meant to fill the queue"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_slow_calls_does_not_delay_interactive_ones() {
    let house = House::new(QuotaSettings::default());
    flood(&house, "nightly", BATCH, 500, Service::Steady, 10_000 * MS);
    sleep(1000 * MS).await;
    assert_eq!(house.look().in_flight, 72, "the interactive reserve is 8");
    let mut waits = light_waits(&house, Service::Spread).await;
    assert!(quantile(&mut waits, 0.99) <= 50 * MS);
}

#[tokio::test(start_paused = true)]
async fn one_grant_in_ten_goes_to_batch_while_both_wait() {
    let house = House::new(QuotaSettings::default());
    flood(&house, "urgent", CALL, 300, Service::Spread, 200 * MS);
    flood(&house, "nightly", BATCH, 300, Service::Spread, 200 * MS);
    sleep(60_000 * MS).await;
    let snapshot = house.look();
    let requests = |name: &str| requests(&snapshot.tenants, name);
    let part = requests("nightly") as f64 / (requests("nightly") + requests("urgent")) as f64;
    assert!((0.09..=0.11).contains(&part), "{part}");
}

fn requests(tenants: &[TenantSnapshot], name: &str) -> u64 {
    let tenant = tenants.iter().find(|tenant| tenant.tenant.as_str() == name);
    tenant.map_or(0, |tenant| tenant.totals.requests)
}

#[tokio::test(start_paused = true)]
async fn ten_tenants_share_permit_seconds_however_long_their_calls_are() {
    const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let house = House::new(QuotaSettings::default());
    for (number, name) in NAMES.into_iter().enumerate() {
        let mean = if number % 2 == 0 { 100 * MS } else { 2000 * MS };
        flood(&house, name, CALL, 60, Service::Spread, mean);
    }
    sleep(60_000 * MS).await;
    let snapshot = house.look();
    let shares: Vec<f64> = snapshot
        .tenants
        .iter()
        .map(|t| t.totals.permit_seconds)
        .collect();
    assert_eq!(shares.len(), 10);
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    let jain = sum * sum / (10.0 * squares);
    assert!(jain >= 0.99, "{jain} {shares:?}");
    assert!(sum / 60.0 / 80.0 >= 0.97, "{sum}");
}

#[tokio::test(start_paused = true)]
async fn weights_and_ceilings_of_tenants_hold() {
    let mut config = config(QuotaSettings::default());
    let house_account = kintone_egress::model::Account::from_normal("acme.cybozu.com");
    let tenant = |weight, concurrency| TenantSettings {
        weight,
        concurrency,
        contacts: Vec::new(),
    };
    let name = |name| kintone_egress::model::Tenant::parse(name).expect("a name");
    config.accounts.insert(
        house_account,
        AccountSettings {
            enabled: true,
            quota: QuotaSettings::default(),
            accepts: Vec::new(),
            probe: None,
            contacts: Vec::new(),
            tenants: [
                (name("double"), tenant(2, None)),
                (name("capped"), tenant(1, Some(5))),
            ]
            .into(),
        },
    );
    let house = House::with(&config);
    for name in ["double", "single", "capped"] {
        flood(&house, name, CALL, 100, Service::Spread, 200 * MS);
    }
    let until = Instant::now() + 60_000 * MS;
    while Instant::now() < until {
        sleep(97 * MS).await;
        let snapshot = house.look();
        let capped = snapshot
            .tenants
            .iter()
            .find(|t| t.tenant.as_str() == "capped");
        assert!(capped.is_some_and(|tenant| tenant.in_flight <= 5));
    }
    let snapshot = house.look();
    let requests = |name: &str| requests(&snapshot.tenants, name) as f64;
    let ratio = requests("double") / requests("single");
    assert!((1.9..=2.1).contains(&ratio), "{ratio}");
}

/// The permit-seconds of one tenant for each of another's, over ten seconds in which both want all.
async fn ratio(house: &House, one: &str, other: &str) -> f64 {
    let held = |name: &str| {
        let tenants = house.look().tenants;
        let tenant = tenants.iter().find(|tenant| tenant.tenant.as_str() == name);
        tenant.map_or(0.0, |tenant| tenant.totals.permit_seconds)
    };
    sleep(1000 * MS).await;
    let before = (held(one), held(other));
    sleep(10_000 * MS).await;
    (held(one) - before.0) / (held(other) - before.1)
}

#[tokio::test(start_paused = true)]
async fn a_tenant_of_which_half_is_here_has_half_a_share_while_the_host_has_a_share() {
    let house = House::new(QuotaSettings {
        concurrency: 80,
        ..QuotaSettings::default()
    });
    let share = Share {
        own: 60,
        loans: Vec::new(),
    };
    house.quotas.set_share(&house.account, share);
    for name in ["both", "one", "other"] {
        flood(&house, name, CALL, 100, Service::Spread, 200 * MS);
    }
    let whole = ratio(&house, "both", "one").await;
    assert!((0.95..=1.05).contains(&whole), "{whole}");
    let tell = |here, everywhere| {
        let tenant = kintone_egress::model::Tenant::parse("both").expect("a name");
        let portion = Portion::of(here, everywhere);
        let portions = [TenantPortion { tenant, portion }];
        house.quotas.set_portions(&house.account, &portions);
    };
    tell(100, 200);
    let half = ratio(&house, "both", "one").await;
    assert!((0.48..=0.52).contains(&half), "{half}");
    assert_eq!(house.look().in_flight, 60, "nothing is left unused");
    tell(50, 200);
    let quarter = ratio(&house, "both", "other").await;
    assert!((0.23..=0.27).contains(&quarter), "{quarter}");
    house.quotas.unset_share(&house.account);
    let whole = ratio(&house, "both", "one").await;
    assert!((0.95..=1.05).contains(&whole), "{whole}");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_of_which_little_is_here_does_not_starve() {
    let house = House::new(QuotaSettings::default());
    let little = |name| TenantPortion {
        tenant: kintone_egress::model::Tenant::parse(name).expect("a name"),
        portion: Portion::of(1, 100_000),
    };
    for name in ["little", "much"] {
        flood(&house, name, CALL, 100, Service::Spread, 200 * MS);
    }
    sleep(100 * MS).await;
    let portions = [little("little"), little("never-called")];
    house.quotas.set_portions(&house.account, &portions);
    let ratio = ratio(&house, "little", "much").await;
    assert!((0.05..=0.10).contains(&ratio), "{ratio}");
}

#[tokio::test(start_paused = true)]
async fn places_kept_for_a_tenant_that_does_not_come_back_are_given_out() {
    let house = House::new(QuotaSettings {
        max_wait: 60_000 * MS,
        ..QuotaSettings::default()
    });
    house.admit("light", CALL).await.expect("a permit").finish();
    flood(&house, "flood", CALL, 200, Service::Steady, 3_600_000 * MS);
    sleep(1000 * MS).await;
    assert_eq!(house.look().in_flight, 77, "three are kept");
    // Nothing ends in this hour; only time passes.
    sleep(10_000 * MS).await;
    assert_eq!(house.look().in_flight, 80);
}
