//! `doctor` by the program that people run, in front of a simulated kintone.

use std::net::{IpAddr, TcpListener};
use std::process::{Command, Output};

use kintone_sim::{DeniedAnswer, Maintenance, Options, Sim, TenantSettings};

use crate::support::program::without_environment;
use crate::support::{ACME, Plan, config_text};

/// A host that is examined, and the kintone that it reaches.
struct Site {
    sim: Sim,
    plan: Plan,
    dir: tempfile::TempDir,
}

impl Site {
    async fn new(plan: Plan) -> Self {
        let sim = Sim::start(Options::default()).await.unwrap();
        sim.tenant(ACME, TenantSettings::default());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), sim.ca_pem()).unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        Self { sim, plan, dir }
    }

    /// What `doctor` says, and its exit status.
    async fn doctor(&self, domain: &[&str]) -> (i32, String) {
        let config = config_text(&self.plan, self.sim.addr());
        std::fs::write(self.dir.path().join("gateway.toml"), config).unwrap();
        let program = Command::new(env!("CARGO_BIN_EXE_kintone-egress"));
        let mut command = without_environment(program);
        command
            .args(["doctor", "--config", "gateway.toml"])
            .args(domain)
            .current_dir(self.dir.path());
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let Output { status, stdout, .. } = output.unwrap().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap())
    }
}

fn plan() -> Plan {
    Plan {
        upstream: String::from("zones = [\"cybozu.com\", \"kintone.com\"]"),
        ..Plan::default()
    }
}

/// The line about `what`.
fn line<'a>(said: &'a str, what: &str) -> &'a str {
    let about = |line: &&str| line[8..].starts_with(what);
    let lines = said.lines().filter(|line| line.len() > 8);
    lines
        .clone()
        .find(about)
        .unwrap_or_else(|| panic!("{what} in {said}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_fit_and_let_in_is_all_well() {
    let site = Site::new(plan()).await;
    let (status, said) = site.doctor(&[ACME]).await;
    assert_eq!(status, 0, "{said}");
    assert!(said.ends_with("all well\n"), "{said}");
    for what in [
        "address 18.177.83.94",
        "address 35.73.236.241",
        "port 127.0.0.1:0 ([listen] proxy)",
        "state directory ",
        "DNS, cybozu.com",
        "fleet",
        "customer acme.cybozu.com, from 18.177.83.94",
        "customer acme.cybozu.com, from 35.73.236.241",
    ] {
        assert!(line(&said, what).starts_with("ok "), "{what} in {said}");
    }
    let ledger = site.sim.ledger();
    assert_eq!(ledger.executions.len(), 2, "one page from each address");
    let sources: Vec<_> = ledger
        .sources()
        .into_keys()
        .map(|ip| ip.to_string())
        .collect();
    assert_eq!(sources, ["127.0.1.94", "127.0.1.241"]);
    assert!(
        !std::fs::read_dir(site.dir.path().join("state"))
            .unwrap()
            .any(|_| true)
    );
    let (status, said) = site.doctor(&[]).await;
    assert_eq!(status, 0, "{said}");
    assert!(line(&said, "customer").starts_with("note "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_the_customer_does_not_allow_is_named() {
    let site = Site::new(plan()).await;
    let first: IpAddr = "127.0.1.94".parse().unwrap();
    for denied in [DeniedAnswer::Html403, DeniedAnswer::Html401] {
        site.sim.update(ACME, |tenant| {
            tenant.allow = Some(vec![first]);
            tenant.denied = denied;
        });
        let (status, said) = site.doctor(&[ACME]).await;
        assert_eq!(status, 3, "{said}");
        assert!(said.ends_with("\n1 finding\n"), "{said}");
        let refused = line(&said, "customer acme.cybozu.com, from 35.73.236.241");
        assert!(refused.starts_with("FINDING "), "{said}");
        assert!(refused.contains("lacks 35.73.236.241/32"), "{said}");
        let taken = line(&said, "customer acme.cybozu.com, from 18.177.83.94");
        assert!(taken.starts_with("ok "), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_domain_is_told_apart() {
    let site = Site::new(plan()).await;
    site.sim
        .update(ACME, |tenant| tenant.maintenance = Maintenance::Text503);
    let (status, said) = site.doctor(&["ACME.cybozu.com"]).await;
    assert_eq!(status, 0, "maintenance passes: {said}");
    assert!(said.contains("in maintenance (503)"), "{said}");
    for (domain, expected) in [
        ("nobody.cybozu.com", "kintone knows no such domain (404"),
        ("acme.example.com", "is no account of [upstream] zones"),
        ("127.0.0.1", "is no account of [upstream] zones"),
    ] {
        let (status, said) = site.doctor(&[domain]).await;
        assert_eq!(status, 3, "{said}");
        assert!(said.contains(expected), "{expected} in {said}");
    }
    let (status, said) = site.doctor(&["acme.s.cybozu.com"]).await;
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("only a tunnel has"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_host_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let site = Site::new(Plan {
        listen: format!("metrics = \"{port}\""),
        addresses: String::from(
            "[[egress.address]]\npublished = \"18.177.83.94\"\nbind = \"127.0.1.94\"\n\
             [[egress.address]]\npublished = \"35.73.236.241\"\nbind = \"192.0.2.77\"\n",
        ),
        resolve: String::from("\"www.kintone.com\" = \"192.168.0.1\""),
        ..plan()
    })
    .await;
    std::fs::remove_dir(site.dir.path().join("state")).unwrap();
    let (status, said) = site.doctor(&[ACME]).await;
    assert_eq!(status, 3, "{said}");
    for (what, expected) in [
        ("address 35.73.236.241", "192.0.2.77 is not on this host"),
        (&*format!("port {port}"), "taken by another program"),
        ("state directory ", "cannot be written"),
        ("DNS, kintone.com", "address_forbidden"),
    ] {
        let found = line(&said, what);
        assert!(found.starts_with("FINDING "), "{found}");
        assert!(found.contains(expected), "{expected} in {found}");
    }
    assert!(said.ends_with("\n4 findings\n"), "{said}");
}
