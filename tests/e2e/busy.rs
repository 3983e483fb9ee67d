//! kintone refuses many calls at admission: callers do not notice, and no write is done twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Method, StatusCode};
use kintone_sim::{Fault, FaultKind};
use tokio::task::JoinSet;

use crate::support::caller::{Answer, Caller, read, record};
use crate::support::inspect::PrivateCa;
use crate::support::{ACME, House, Plan, house};

const CALLS: u32 = 1500;
const WORKERS: u32 = 18;

/// Of ten requests, those that are refused.
const REFUSED_OF_TEN: u64 = 3;

/// Refuses 30 % of the requests, at places drawn by a fixed seed.
fn refuse_some(house: &House) -> u32 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut refused = 0;
    for place in 0..u64::from(CALLS) * 2 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        if (state >> 33) % 10 < REFUSED_OF_TEN {
            // A fault does not count what one before it has hit.
            house.sim.fault(Fault {
                skip: place - u64::from(refused),
                ..Fault::once(FaultKind::TooManyRequests)
            });
            refused += 1;
        }
    }
    refused
}

/// One worker: every other call is a write, over a connection of its way in.
async fn work(house: Arc<House>, ca: String, way: u32, next: Arc<AtomicU32>) -> Vec<Answer> {
    let caller = house.caller().trusting(&ca);
    let (mut forward, mut h1, mut h2) = match way % 3 {
        0 => (Some(caller.connect().await), None, None),
        1 => (None, Some(caller.h1(ACME).await.unwrap()), None),
        _ => (None, None, Some(caller.h2(ACME).await.unwrap())),
    };
    let mut answers = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= CALLS {
            return answers;
        }
        let (method, path, body) = match number % 2 {
            0 => (
                Method::POST,
                "/k/v1/record.json",
                record(&format!("n{number}")),
            ),
            _ => (
                Method::GET,
                "/k/v1/records.json?app=1&limit=1",
                String::new(),
            ),
        };
        let url = format!("https://{ACME}{path}");
        let answer = if let Some(forward) = &mut forward {
            forward.ready().await.unwrap();
            forward
                .send_request(caller.request(method, &url, body))
                .await
        } else if let Some(h1) = &mut h1 {
            h1.ready().await.unwrap();
            h1.send_request(Caller::inner(method, ACME, path, body))
                .await
        } else {
            let h2 = h2.as_mut().expect("one of the three");
            h2.ready().await.unwrap();
            let mut request = Caller::inner(method, ACME, &url, body);
            request.headers_mut().remove("host");
            h2.send_request(request).await
        };
        answers.push(read(answer.unwrap()).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_calls_that_kintone_refuses_for_load_all_but_one_in_a_thousand_succeed() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async move |house| {
        let armed = refuse_some(&house);
        let next = Arc::new(AtomicU32::new(0));
        let mut workers = JoinSet::new();
        for way in 0..WORKERS {
            let (house, ca, next) = (Arc::clone(&house), ca.pem.clone(), Arc::clone(&next));
            workers.spawn(work(house, ca, way, next));
        }
        let answers: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
        assert_eq!(answers.len(), CALLS as usize);
        let failed: Vec<_> = answers
            .iter()
            .filter(|answer| answer.status != StatusCode::OK)
            .collect();
        let ledger = house.sim.ledger();
        let refused = ledger.executions.iter().filter(|call| call.status == 429).count();
        println!(
            "{CALLS} calls, {} requests at kintone, {refused} of them refused ({armed} armed), {} calls failed",
            ledger.executions.len(),
            failed.len()
        );
        let share = refused as f64 / ledger.executions.len() as f64;
        assert!((0.27..0.33).contains(&share), "{share}: the control");
        assert!(failed.len() * 1000 <= answers.len(), "{failed:?}");
        let mut written = BTreeMap::new();
        for call in ledger.executions.iter().filter(|call| call.method == "POST" && call.executed) {
            *written.entry(&call.body_sha256).or_insert(0) += 1;
        }
        assert!(written.values().all(|times| *times == 1), "a write was done twice");
        let succeeded = answers.iter().filter(|answer| answer.json()["revision"].is_string());
        assert!(written.len() >= succeeded.count(), "none was made up");
        assert!(written.len() * 1000 >= CALLS as usize / 2 * 999);
    })
    .await;
}
