//! What sharing with other hosts costs a call: a permit from admission to the last byte, alone, from a
//! host's own part, and from a loan, with the question before its first byte.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use kintone_egress::config::QuotaSettings;
use kintone_egress::quota::{Loan, Permit, Share};

#[path = "../../quota/house.rs"]
mod house;

use house::House;

/// A loan that does not end here.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A house whose host has this share of its account.
fn sharing(own: u32, lent: u32) -> House {
    let house = House::new(QuotaSettings::default());
    let loans = match lent {
        0 => Vec::new(),
        permits => vec![Loan {
            permits,
            until: FOR_EVER,
        }],
    };
    house.quotas.set_share(&house.account, Share { own, loans });
    house
}

async fn call(house: &House) {
    let admitted = house.quotas.admit(black_box(house.ask())).await;
    let mut permit = admitted.expect("there is room");
    if let Some(may_go) = permit.sent() {
        permit.cut_by(Box::new(|| {}));
        assert!(black_box(may_go)());
    }
    permit.answered(black_box(Some(100)), black_box(Some(2)));
    permit.finish();
}

/// A permit that stays in use.
async fn kept(house: &House) -> Permit {
    let mut permit = house
        .quotas
        .admit(house.ask())
        .await
        .expect("there is room");
    permit.sent();
    permit
}

fn fleet(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let houses = [
        ("alone", House::new(QuotaSettings::default())),
        ("of a host's own part", sharing(40, 0)),
        ("of a loan", sharing(1, 40)),
    ];
    // In each, one call is under way: where one permit is a host's own, the next call goes on a loan.
    let under_way: Vec<_> = houses
        .iter()
        .map(|(_, house)| runtime.block_on(kept(house)))
        .collect();
    let mut group = criterion.benchmark_group("a permit");
    for (name, house) in &houses {
        group.bench_function(*name, |bencher| {
            bencher.to_async(&runtime).iter(|| call(house));
        });
    }
    group.finish();
    under_way.into_iter().for_each(Permit::finish);
}

criterion_group!(benches, fleet);
criterion_main!(benches);
