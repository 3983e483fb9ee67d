//! What a row is played in: a gateway, kintone with accounts in every plight, and the client.

use std::path::Path;
use std::sync::Arc;

use kintone_egress::config::token::hash_token;
use kintone_egress::gateway::Signal;
use kintone_sim::{Fault, FaultKind, TenantSettings};

use super::client::{Client, Mode, Shows};
use super::data;
use super::process::Process;
use super::refusals::{self, CASES, Case, DISTRUSTED, DRAINED, LIMITED_TOKEN};
use super::support::inspect::PrivateCa;
use super::support::{House, Plan, house};

/// Token of the caller `holder`, whose tunnels hold permits.
const HOLDER_TOKEN: &str = "canary-holder-token-3ab1";

/// Plays the row; each refusal that the client met, and what it showed of it.
pub(crate) async fn run(client: &'static Client, mode: Mode) -> Vec<(&'static str, Shows)> {
    let shown = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&shown);
    let ca = PrivateCa::new();
    let plan = if mode.is_inspected() {
        ca.plan(plan())
    } else {
        plan()
    };
    house(plan, |house| async move {
        let ca_file = house.config_path.with_file_name("trusted.pem");
        // A tunnel is end to end; where the gateway ends the TLS, its authority alone will do.
        let trusted = if mode.is_inspected() {
            &ca.pem
        } else {
            house.sim.ca_pem()
        };
        std::fs::write(&ca_file, trusted).unwrap();
        let met = play(&house, client, mode, &ca_file).await;
        *noted.lock().unwrap() = met;
    })
    .await;
    let shown = shown.lock().unwrap();
    shown.clone()
}

async fn play(
    house: &House,
    client: &Client,
    mode: Mode,
    ca_file: &Path,
) -> Vec<(&'static str, Shows)> {
    prepare(house);
    let start = || Process::start(client, mode, house.proxy, ca_file);
    data::check(house, client, mode, start()).await;
    if mode.is_inspected() {
        let kintones = house.config_path.with_file_name("ca.pem");
        let process = Process::start(client, mode, house.proxy, &kintones);
        data::check_distrust(house, client, process).await;
    }

    let mut process = start();
    let executed = data::executions(&house.sim);
    let paced = house.caller().get(&url("paced.cybozu.com")).await;
    assert_eq!(paced.status, 200, "{paced:?}");
    let holder = house.caller_as("holder", HOLDER_TOKEN);
    let full = holder.tunnel("full.cybozu.com").await.unwrap();
    let slow = holder.tunnel("slow.cybozu.com").await.unwrap();
    let mut shown = Vec::new();
    let of_kintone = mode.sees_calls().then_some(&DISTRUSTED);
    for case in CASES.iter().chain(of_kintone) {
        let shows = refusals::meet(house, case, client, mode, &mut process).await;
        shown.push((case.code, shows));
    }
    drop((full, slow));
    assert_eq!(
        data::executions(&house.sim),
        executed + 1,
        "a refused call was executed"
    );
    // After all that it goes on.
    data::read(house, &mut process).await;

    shown.push(drain(house, client, mode, &mut process).await);
    process.end().await;
    shown
}

/// A call waits for an account whose only permit is taken, and the gateway ends.
async fn drain(
    house: &House,
    client: &Client,
    mode: Mode,
    process: &mut Process,
) -> (&'static str, Shows) {
    let case: &Case = &DRAINED;
    let errand = case.errand();
    let holder = house.caller_as("holder", HOLDER_TOKEN);
    let busy = holder.tunnel("busy.cybozu.com").await.unwrap();
    let executed = data::executions(&house.sim);
    let (said, ()) = tokio::join!(process.run(&errand), async {
        house
            .until("the call waits", |house| {
                let accounts = house.quotas.snapshot();
                accounts.iter().any(|account| account.queued == 1)
            })
            .await;
        house.signals.send(Signal::End).await.unwrap();
    });
    drop(busy);
    house.until("it has ended", House::has_ended).await;
    refusals::check(&said, case, client, mode);
    assert_eq!(data::executions(&house.sim), executed, "it was executed");
    (case.code, case.shows(client, mode))
}

fn url(host: &str) -> String {
    format!("https://{host}/k/v1/records.json?app=1")
}

fn prepare(house: &House) {
    for account in ["paced", "full", "slow", "busy", "forged"] {
        let domain = format!("{account}.cybozu.com");
        house.sim.tenant(&domain, TenantSettings::default());
    }
    house.sim.fault(Fault {
        domain: Some("forged.cybozu.com".into()),
        ..Fault::always(FaultKind::TlsUntrusted)
    });
}

fn plan() -> Plan {
    let holder = hash_token(HOLDER_TOKEN.as_bytes()).to_hex();
    let limited = hash_token(LIMITED_TOKEN.as_bytes()).to_hex();
    let account = |name: &str, keys: &str| format!("[account.\"{name}.cybozu.com\"]\n{keys}\n");
    let one = "concurrency = 1\nheadroom = 0\n";
    Plan {
        resolve: "\"closed.cybozu.com\" = \"127.0.0.1:1\"".into(),
        grace: "300ms",
        // The tunnels that hold permits do so for as long as a client on a busy machine takes.
        quota: "tunnel_yield = \"0s\"\ntunnel_idle = \"10m\"".into(),
        tables: [
            format!(
                "[[caller]]\nname = \"limited\"\ntoken_sha256 = \"{limited}\"\naccounts = [\"other.cybozu.com\"]\n"
            ),
            format!("[[caller]]\nname = \"holder\"\ntoken_sha256 = \"{holder}\"\nmodes = [\"tunnel\"]\n"),
            account("paced", "rate = 0.01\nburst = 1\nmax_wait = \"1s\""),
            account("full", &format!("{one}queue = 0")),
            account("slow", &format!("{one}max_wait = \"100ms\"")),
            account("busy", &format!("{one}max_wait = \"60s\"")),
        ]
        .concat(),
        ..Plan::default()
    }
}
