//! The house under test: quotas with their clockwork, a modelled kintone, and callers.

#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use kintone_egress::config::{
    AccessLog, AccountPolicy, Admin, Callers, Circuit, Config, Drain, Exchange, Fleet, Limits,
    Listen, Log, QuotaSettings, Upstream,
};
use kintone_egress::model::{Account, CallerName, Denial, Mode, Priority, Tenant};
use kintone_egress::quota::{AccountSnapshot, Ask, Permit, Quotas, Term};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

pub const MS: Duration = Duration::from_millis(1);

/// A configuration of which only the quotas matter.
pub fn config(quota: QuotaSettings) -> Config {
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
        notice: Default::default(),
        public: Default::default(),
        evidence: Default::default(),
        acceptance: Default::default(),
        upstream: Upstream {
            zones: vec!["cybozu.com".into()],
            accounts: AccountPolicy::Any,
            ca_file: None,
            allow_networks: Vec::new(),
            connect_timeout: 5000 * MS,
            response_timeout: 600_000 * MS,
            pool_idle: 4000 * MS,
            pool_life: Duration::from_secs(300),
            pool_per_host: 100,
            pool_total: 2000,
            replay: 65_536,
            resolve: Vec::new(),
        },
        callers: Callers {
            named: Vec::new(),
            anonymous: None,
        },
        quota,
        accounts: BTreeMap::new(),
        circuit: Circuit::default(),
        inspect: None,
        limits: Limits::default(),
        fleet: Fleet {
            host: "gw-a".into(),
            hosts: vec!["gw-a".into()],
            redis: None,
            exchange: Exchange::default(),
            peer: None,
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
pub struct House {
    pub quotas: Quotas,
    pub account: Account,
    pub caller: CallerName,
    /// Runs until it is aborted.
    pub clockwork: AbortHandle,
}

/// What a call of a test wants.
#[derive(Clone, Copy)]
pub struct Wish {
    pub mode: Mode,
    pub priority: Priority,
    pub wait: Option<Duration>,
    pub weight: u32,
}

pub const CALL: Wish = Wish {
    mode: Mode::Forward,
    priority: Priority::Interactive,
    wait: None,
    weight: 1,
};
pub const BATCH: Wish = Wish {
    priority: Priority::Batch,
    ..CALL
};

impl House {
    pub fn new(quota: QuotaSettings) -> Self {
        Self::with(&config(quota))
    }

    pub fn with(config: &Config) -> Self {
        Self::of(Quotas::new(config))
    }

    /// A house with quotas that somebody else made.
    pub fn of(quotas: Quotas) -> Self {
        let clockwork = quotas.clone();
        let clockwork = tokio::spawn(async move { clockwork.drive().await });
        Self {
            clockwork: clockwork.abort_handle(),
            quotas,
            account: Account::from_normal("acme.cybozu.com"),
            caller: CallerName::parse("call-events").expect("a name"),
        }
    }

    pub async fn admit(&self, tenant: &str, wish: Wish) -> Result<Permit, Denial> {
        let tenant = Tenant::parse(tenant).ok();
        self.quotas
            .admit(Ask {
                mode: wish.mode,
                tenant: tenant.as_ref(),
                priority: wish.priority,
                call_wait: wish.wait,
                weight: wish.weight,
                ..self.ask()
            })
            .await
    }

    /// A short interactive call without a tenant, by the account's own wait.
    pub fn ask(&self) -> Ask<'_> {
        Ask {
            account: &self.account,
            mode: Mode::Forward,
            tenant: None,
            caller: &self.caller,
            priority: Priority::Interactive,
            caller_wait: None,
            call_wait: None,
            weight: 1,
            term: Term::Short,
        }
    }

    pub fn look(&self) -> AccountSnapshot {
        self.quotas.snapshot_of(&self.account).expect("in use")
    }

    pub fn assert_balanced(&self, held: u64) {
        let balance = self.quotas.balance();
        assert_eq!(balance.acquired - balance.released, balance.held);
        assert_eq!(balance.held, held);
    }
}

/// Lets every task that can run do so, without time passing.
pub async fn breathe() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// The value below which `part` of the sorted waits lie.
pub fn quantile(waits: &mut [Duration], part: f64) -> Duration {
    waits.sort_unstable();
    waits[((waits.len() - 1) as f64 * part).round() as usize]
}

pub async fn all<T: Send + 'static>(
    calls: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut set = JoinSet::new();
    for call in calls {
        set.spawn(call);
    }
    set.join_all().await
}

/// A kintone that counts calls of ours and of others against one limit.
#[derive(Debug)]
pub struct Kintone {
    pub limit: u32,
    pub outside: AtomicU32,
    pub ours: AtomicU32,
    pub peak_ours: AtomicU32,
    pub refusals: AtomicU32,
    pub executions: AtomicU64,
    /// How long a message is under way.
    pub distance: Duration,
    pub counts: Counts,
}

/// When kintone counts for `X-ConcurrencyLimit-Running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    AtArrival,
    AtAnswer,
}

impl Kintone {
    pub fn new(distance: Duration, counts: Counts) -> Arc<Self> {
        Arc::new(Self {
            limit: 100,
            outside: AtomicU32::new(0),
            ours: AtomicU32::new(0),
            peak_ours: AtomicU32::new(0),
            refusals: AtomicU32::new(0),
            executions: AtomicU64::new(0),
            distance,
            counts,
        })
    }

    /// Executes a call and says how many run, or refuses it and says one more than its limit.
    pub async fn execute(&self, service: Duration) -> Result<u32, u32> {
        sleep(self.distance).await;
        let ours = self.ours.load(Ordering::Relaxed) + 1;
        let at_arrival = ours + self.outside.load(Ordering::Relaxed);
        if at_arrival > self.limit {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            sleep(self.distance).await;
            return Err(self.limit + 1);
        }
        self.ours.store(ours, Ordering::Relaxed);
        self.peak_ours.fetch_max(ours, Ordering::Relaxed);
        self.executions.fetch_add(1, Ordering::Relaxed);
        sleep(service).await;
        let at_answer =
            self.ours.fetch_sub(1, Ordering::Relaxed) + self.outside.load(Ordering::Relaxed);
        sleep(self.distance).await;
        Ok(match self.counts {
            Counts::AtArrival => at_arrival,
            Counts::AtAnswer => at_answer,
        })
    }
}

impl House {
    /// A whole call, sent again as often as kintone refuses it; tells how long it waited.
    pub async fn call(
        &self,
        kintone: &Kintone,
        tenant: &str,
        wish: Wish,
        service: Duration,
    ) -> Result<Duration, Denial> {
        let mut permit = self.admit(tenant, wish).await?;
        loop {
            permit.sent();
            match kintone.execute(service).await {
                Ok(running) => {
                    permit.answered(Some(kintone.limit), Some(running));
                    let waited = permit.waited();
                    permit.finish();
                    return Ok(waited);
                }
                Err(running) => {
                    permit = permit
                        .refused(Some(kintone.limit), Some(running))
                        .again()
                        .await?;
                }
            }
        }
    }
}

/// Numbers that look random and are the same in every run.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below `sides`.
    pub fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    /// Exponentially distributed around `mean`.
    pub fn spread(&mut self, mean: Duration) -> Duration {
        let part = (self.throw(1 << 40) + 1) as f64 / (1_u64 << 40) as f64;
        mean.mul_f64(-part.ln())
    }
}
