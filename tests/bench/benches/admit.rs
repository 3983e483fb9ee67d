//! What a permit costs that is there at once, and what a refusal costs behind a long queue.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use kintone_egress::config::QuotaSettings;
use kintone_egress::model::Tenant;
use kintone_egress::quota::{Ask, Boot, Opened, Permit, Quotas};

#[path = "../../quota/house.rs"]
mod house;

use house::{CALL, House};

async fn granted(ask: Ask<'_>, house: &House) -> Permit {
    house.quotas.admit(ask).await.expect("there is room")
}

fn admit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let house = House::new(QuotaSettings::default());
    let tenant = Tenant::parse("company-1").expect("a name");

    // The floor on this machine: two steps under a lock, each with its own look at the clock.
    let lock = std::sync::Mutex::new(0_u64);
    criterion.bench_function("lock and clock, twice", |bencher| {
        bencher.iter(|| {
            for _ in 0..2 {
                let now = tokio::time::Instant::now();
                *lock.lock().expect("whole") += 1;
                black_box(now);
            }
        });
    });
    criterion.bench_function("admit and finish", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            granted(black_box(house.ask()), &house).await.finish();
        });
    });
    criterion.bench_function("admit, send, answer and finish for a tenant", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let ask = Ask {
                tenant: Some(&tenant),
                ..black_box(house.ask())
            };
            let mut permit = granted(ask, &house).await;
            permit.sent();
            permit.answered(black_box(Some(100)), black_box(Some(1)));
            permit.finish();
        });
    });

    let dir = tempfile::tempdir().expect("a folder");
    let boot = Boot::read("/".as_ref()).expect("Linux");
    let opened = Opened::open(dir.path(), boot).expect("a new record");
    let config = house::config(QuotaSettings::default());
    let recorded = House::of(Quotas::recorded(&config, opened));
    criterion.bench_function("the same, written into the flight record", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let ask = Ask {
                tenant: Some(&tenant),
                ..black_box(recorded.ask())
            };
            let mut permit = granted(ask, &recorded).await;
            permit.sent();
            permit.answered(black_box(Some(100)), black_box(Some(1)));
            permit.finish();
        });
    });

    let full = House::new(QuotaSettings::default());
    runtime.block_on(async {
        full.admit("a", CALL).await.expect("there is room").finish();
        let mut permits = Vec::new();
        while let Ok(permit) = full
            .quotas
            .admit(Ask {
                call_wait: Some(Duration::ZERO),
                ..full.ask()
            })
            .await
        {
            permits.push(permit);
        }
        let waiting: Vec<_> = (0..900)
            .map(|_| {
                let full = full.clone();
                tokio::spawn(async move {
                    let week = Duration::from_secs(600_000);
                    let caller_wait = Some(week);
                    drop(
                        full.quotas
                            .admit(Ask {
                                caller_wait,
                                ..full.ask()
                            })
                            .await,
                    );
                })
            })
            .collect();
        tokio::task::yield_now().await;
        std::mem::forget((permits, waiting));
    });
    criterion.bench_function("refuse a call behind 900 others", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let call_wait = Some(Duration::from_nanos(1));
            let refused = full
                .quotas
                .admit(Ask {
                    call_wait,
                    ..black_box(full.ask())
                })
                .await;
            assert!(black_box(refused).is_err());
        });
    });
}

criterion_group!(benches, admit);
criterion_main!(benches);
