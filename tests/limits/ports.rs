//! Local ports run out: in a network namespace that has only a few.

use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::caller::read;
use crate::support::namespace::in_namespace;
use crate::support::{ACME, House, Plan, house};

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Callers who call at once; each bind address has four ports towards kintone, and there are two.
const CALLERS: usize = 20;
const PORTS: usize = 8;

#[test]
fn when_local_ports_run_out_calls_are_refused_and_it_passes() {
    let name = "ports::when_local_ports_run_out_calls_are_refused_and_it_passes";
    in_namespace(name, few_ports);
}

async fn few_ports() {
    let mut plan = Plan::default();
    plan.tenant.latency.base_ms = 300;
    house(plan, async |house| {
        for domain in ["a.cybozu.com", "b.cybozu.com"] {
            house
                .sim
                .tenant(domain, kintone_sim::TenantSettings::default());
        }
        let caller = house.caller();
        let mut senders = Vec::new();
        for _ in 0..CALLERS {
            senders.push(caller.connect().await);
        }
        std::fs::write(RANGE, "20000 20003").unwrap();
        let mut calls = JoinSet::new();
        for mut sender in senders {
            let request = caller.request(Method::GET, &url(ACME), "");
            calls.spawn(async move {
                let answer = read(sender.send_request(request).await.unwrap())
                    .await
                    .unwrap();
                (sender, answer)
            });
        }
        let (mut senders, mut refused) = (Vec::new(), Vec::new());
        while let Some(called) = calls.join_next().await {
            let (sender, answer) = called.unwrap();
            if answer.status == 200 {
                senders.push(sender);
            } else {
                crate::support::invariants::check_refusal(
                    &answer,
                    503,
                    "GW_OVERLOADED",
                    "proxy_internal_error",
                );
                refused.push(answer);
            }
        }
        assert_eq!((senders.len(), refused.len()), (PORTS, CALLERS - PORTS));
        for answer in &refused {
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(line["detail"], "local_ports", "{line}");
            assert_ne!(line["upstream"], serde_json::Value::Null, "it was dialled");
        }
        let hits = house
            .metric("kintone_egress_limit_hits_total{limit=\"local_ports\"}")
            .await;
        assert_eq!(hits, Some(refused.len() as f64));
        // Other names live at the same address: what waits in the pool gives way to them.
        for domain in ["a.cybozu.com", "b.cybozu.com"] {
            passes(&house, &mut senders[0], domain).await;
        }
        std::fs::write(RANGE, "32768 60999").unwrap();
    })
    .await;
}

/// Calls until it is answered; refusals say the same as ever.
async fn passes(
    house: &House,
    sender: &mut hyper::client::conn::http1::SendRequest<http_body_util::Full<bytes::Bytes>>,
    domain: &str,
) {
    let begun = Instant::now();
    loop {
        let request = house.caller().request(Method::GET, &url(domain), "");
        sender.ready().await.unwrap();
        let answer = read(sender.send_request(request).await.unwrap())
            .await
            .unwrap();
        if answer.status == 200 {
            println!("{domain} was reached after {:?}", begun.elapsed());
            return;
        }
        assert_eq!(answer.code(), "GW_OVERLOADED");
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it does not pass"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

fn url(domain: &str) -> String {
    format!("https://{domain}/k/v1/records.json?app=1")
}
