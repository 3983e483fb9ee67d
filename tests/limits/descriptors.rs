//! File descriptors run out: whoever calls is told so, and it passes.

use std::net::Ipv4Addr;
use std::time::Duration;

use kintone_sim::TenantSettings;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::crowd::{self, Greeted};
use crate::support::ACME;
use crate::support::invariants::check_refusal;
use crate::support::program::{Program, under_load};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// `ulimit -n` of the program: small, so that it is soon reached.
const LIMIT: u64 = 256;

const CALLER: Ipv4Addr = Ipv4Addr::new(127, 0, 6, 1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_descriptors_run_out_every_caller_is_told_and_it_passes() {
    let program = Program::start(&under_load(), LIMIT).await;
    program
        .sim
        .tenant("other.cybozu.com", TenantSettings::default());
    let said = program.said();
    assert!(
        said.contains("too few file descriptors"),
        "told at the start: {said}"
    );

    // Idle connections take no more than their share: the rest are answered and closed.
    let mut idle = Vec::new();
    let mut closed = 0;
    for _ in 0..400 {
        match crowd::greet(CALLER, program.proxy).await {
            Greeted::Stays(stream) => idle.push(stream),
            Greeted::Closes => closed += 1,
            other @ (Greeted::Reset | Greeted::Hangs) => panic!("{other:?}"),
        }
    }
    assert!(
        closed >= 200 && idle.len() >= 100,
        "{closed} closed, {} stay",
        idle.len()
    );
    assert_eq!(
        program.caller().get(RECORDS).await.status,
        200,
        "calls go on"
    );

    // Tunnels need two each, and are refused when there are no more. What waits in the pool gives
    // way to them first.
    let mut tunnels = Vec::new();
    let mut refused = 0;
    while refused < 5 {
        match program.caller().open_tunnel(ACME).await {
            Ok(tunnel) => {
                tunnels.push(tunnel);
                refused = 0;
            }
            Err(refusal) => {
                check_refusal(&refusal, 503, "GW_OVERLOADED", "proxy_internal_error");
                refused += 1;
                sleep(Duration::from_millis(20)).await;
            }
        }
        assert!(tunnels.len() < 100, "no end of tunnels");
    }
    let other = "https://other.cybozu.com/k/v1/records.json?app=1";
    for _ in 0..100 {
        let call = program.caller();
        let answer = timeout(Duration::from_secs(5), call.get(other)).await;
        let answer = answer.expect("told at once");
        check_refusal(&answer, 503, "GW_OVERLOADED", "proxy_internal_error");
        assert_eq!(answer.header("connection"), "close");
    }
    assert!(program.hits("file_descriptors").await >= 300.0);

    // Callers who say nothing take the last ones; operators still see why.
    let mut silent = Vec::new();
    for _ in 0..60 {
        // A reset may be here before the connection is.
        silent.extend(TcpStream::connect(program.proxy).await.ok());
    }
    for _ in 0..20 {
        match crowd::greet(CALLER, program.proxy).await {
            Greeted::Closes | Greeted::Reset => {}
            other @ (Greeted::Stays(_) | Greeted::Hangs) => panic!("{other:?}"),
        }
    }
    assert!(
        program.descriptors() < LIMIT as usize,
        "some are left for operators"
    );
    println!(
        "{} idle, {} tunnels, {} descriptors of {LIMIT}",
        idle.len(),
        tunnels.len(),
        program.descriptors()
    );

    drop((idle, tunnels, silent));
    let freed = Instant::now();
    while program.descriptors() > LIMIT as usize / 2 {
        assert!(freed.elapsed() < Duration::from_secs(5), "it does not pass");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(program.caller().get(other).await.status, 200);
    assert!(matches!(
        crowd::greet(CALLER, program.proxy).await,
        Greeted::Stays(_)
    ));
    program.leave().await;
}
