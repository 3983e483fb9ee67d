//! The simulator as a program, for `make run` and laboratories.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use kintone_sim::{Authority, Keep, Options, Sim, TenantSettings};

/// A kintone on this machine: HTTPS for the hosts under cybozu.com, kintone.com and cybozu.cn.
///
/// Each account has app 1 with a few records, the API token `demo-token` and the user `demo` with the password `demo`.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen for HTTPS
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where to listen for HTTP to control it (ledger, accounting, settings, faults)
    #[arg(long)]
    control: Option<SocketAddr>,
    /// Folder of ca.pem and ca.key, which are made when there are none
    #[arg(long)]
    ca_dir: PathBuf,
    /// An account to begin with; may be repeated
    #[arg(long = "tenant", default_value = "acme.cybozu.com")]
    tenants: Vec<String>,
    /// Keep sums only, no book of single requests: for load
    #[arg(long)]
    counts_only: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let sim = Sim::start(Options {
        listen: arguments.listen,
        control: arguments.control,
        ca: Some(Authority::load_or_create(&arguments.ca_dir)?),
        keep: if arguments.counts_only {
            Keep::Counts
        } else {
            Keep::Executions
        },
    })
    .await?;
    for domain in &arguments.tenants {
        sim.tenant(domain, TenantSettings::default());
    }
    let mut line = format!(
        "kintone-sim ready: {} on https {}, CA {}",
        arguments.tenants.join(" "),
        sim.addr(),
        arguments.ca_dir.join("ca.pem").display()
    );
    if let Some(control) = sim.control_addr() {
        line.push_str(&format!(", control http://{control}"));
    }
    writeln!(std::io::stdout(), "{line}")?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
