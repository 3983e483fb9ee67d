//! The quotas as their users meet them, on paused time: crowds, floods, outside load, departures.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kintone_egress::config::{
    AccessLog, AccountPolicy, AccountSettings, Admin, Callers, Config, Drain, Fleet, Limits,
    Listen, Log, QuotaSettings, TenantSettings, Upstream,
};
use kintone_egress::model::{Account, CallerName, Denial, Priority, Tenant};
use kintone_egress::quota::{AccountSnapshot, Ask, Owes, Permit, Quotas};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

const MS: Duration = Duration::from_millis(1);

/// A configuration of which only the quotas matter.
fn config(quota: QuotaSettings) -> Config {
    let nowhere = ([127, 0, 0, 1], 0).into();
    Config {
        listen: Listen {
            proxy: vec![nowhere],
            admin: nowhere,
            metrics: None,
            public: None,
            proxy_tls: Vec::new(),
            tls: None,
        },
        addresses: Vec::new(),
        upstream: Upstream {
            zones: vec!["cybozu.com".into()],
            accounts: AccountPolicy::Any,
            ca_file: None,
            allow_networks: Vec::new(),
            connect_timeout: 5000 * MS,
            response_timeout: 600_000 * MS,
            pool_idle: 4000 * MS,
            pool_per_host: 100,
            replay: 65_536,
            resolve: Vec::new(),
        },
        callers: Callers {
            named: Vec::new(),
            anonymous: None,
        },
        quota,
        accounts: BTreeMap::new(),
        inspect: None,
        limits: Limits::default(),
        fleet: Fleet {
            host: "gw-a".into(),
            hosts: vec!["gw-a".into()],
            redis: None,
        },
        verify: None,
        notify: None,
        admin: Admin { token: None },
        state_dir: "state".into(),
        log: Log {
            level: "info".into(),
            access: AccessLog::Off,
        },
        drain: Drain {
            announce: 5000 * MS,
            grace: 30_000 * MS,
        },
        hash: String::new(),
    }
}

/// Quotas with their clockwork, and who calls.
#[derive(Clone)]
struct House {
    quotas: Quotas,
    account: Account,
    caller: CallerName,
}

/// What a call of a test wants.
#[derive(Clone, Copy)]
struct Wish {
    priority: Priority,
    wait: Option<Duration>,
    weight: u32,
}

const CALL: Wish = Wish {
    priority: Priority::Interactive,
    wait: None,
    weight: 1,
};
const BATCH: Wish = Wish {
    priority: Priority::Batch,
    ..CALL
};

impl House {
    fn new(quota: QuotaSettings) -> Self {
        Self::with(&config(quota))
    }

    fn with(config: &Config) -> Self {
        let quotas = Quotas::new(config);
        let clockwork = quotas.clone();
        tokio::spawn(async move { clockwork.drive().await });
        Self {
            quotas,
            account: Account::from_normal("acme.cybozu.com"),
            caller: CallerName::parse("call-events").expect("a name"),
        }
    }

    async fn admit(&self, tenant: &str, wish: Wish) -> Result<Permit, Denial> {
        let tenant = Tenant::parse(tenant).ok();
        self.quotas
            .admit(Ask {
                account: &self.account,
                tenant: tenant.as_ref(),
                caller: &self.caller,
                priority: wish.priority,
                caller_wait: None,
                call_wait: wish.wait,
                weight: wish.weight,
            })
            .await
    }

    fn look(&self) -> AccountSnapshot {
        self.quotas.snapshot_of(&self.account).expect("in use")
    }

    fn assert_balanced(&self, held: u64) {
        let balance = self.quotas.balance();
        assert_eq!(balance.acquired - balance.released, balance.held);
        assert_eq!(balance.held, held);
    }
}

/// Lets every task that can run do so, without time passing.
async fn breathe() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// The value below which `part` of the sorted waits lie.
fn quantile(waits: &mut [Duration], part: f64) -> Duration {
    waits.sort_unstable();
    waits[((waits.len() - 1) as f64 * part).round() as usize]
}

async fn all<T: Send + 'static>(
    calls: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut set = JoinSet::new();
    for call in calls {
        set.spawn(call);
    }
    set.join_all().await
}

#[tokio::test(start_paused = true)]
async fn of_three_hundred_at_once_eighty_run_and_none_is_refused() {
    let house = House::new(QuotaSettings::default());
    let peak = Arc::new(Mutex::new((0, 0)));
    let begun = Instant::now();
    let outcomes = all((0..300).map(|_| {
        let (house, peak) = (house.clone(), Arc::clone(&peak));
        async move {
            let mut permit = house.admit("a", CALL).await?;
            permit.sent();
            {
                let mut peak = peak.lock().expect("whole");
                peak.0 += 1;
                peak.1 = peak.1.max(peak.0);
            }
            sleep(200 * MS).await;
            peak.lock().expect("whole").0 -= 1;
            permit.finish();
            Ok::<_, Denial>(())
        }
    }))
    .await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(peak.lock().expect("whole").1, 80);
    assert!(begun.elapsed() <= 810 * MS, "{:?}", begun.elapsed());
    house.assert_balanced(0);
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_a_hundred_lets_three_hundred_through_in_two_seconds() {
    let house = House::new(QuotaSettings {
        rate: 100.0,
        burst: 100,
        concurrency: 1000,
        ..QuotaSettings::default()
    });
    let mut waits = all((0..300).map(|_| {
        let house = house.clone();
        async move {
            let permit = house.admit("a", CALL).await.expect("admitted");
            let waited = permit.waited();
            permit.finish();
            waited
        }
    }))
    .await;
    assert_eq!(quantile(&mut waits, 0.33), Duration::ZERO);
    let last = quantile(&mut waits, 1.0);
    assert!((2000 * MS..2300 * MS).contains(&last), "{last:?}");
}
