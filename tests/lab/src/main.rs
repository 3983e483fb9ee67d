//! The laboratory: the gateway with its real addresses, in network namespaces, with everything that
//! leaves it seen. `README.md` beside it says what there is and how to add a scenario.

mod control;
mod echoes;
mod gateway;
mod host;
mod lab;
mod names;
mod packet;
mod report;
mod scenarios;
mod site;
mod support;
mod traffic;
mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use kintone_sim::{Options, Sim, TenantSettings};
use tokio::signal::unix::{SignalKind, signal};

use echoes::Echoes;
use lab::Lab;
use names::Names;
use report::Row;
use scenarios::{ALL, Scenario};
use site::{IMPOSTOR, Site};

/// Runs scenarios with a real gateway at the published addresses. To be started by tests/lab/run,
/// which gives it namespaces of its own.
#[derive(Parser)]
struct Arguments {
    /// The gateway's program
    #[arg(long)]
    gateway: PathBuf,
    /// Where the gateway's files live, in a file system of its own
    #[arg(long)]
    dir: PathBuf,
    /// Where the files of a scenario with faults are copied to
    #[arg(long)]
    keep: PathBuf,
    /// Only scenarios whose name contains one of these
    scenarios: Vec<String>,
}

/// No scenario takes longer unless it hangs.
const SCENARIO_MAX: Duration = Duration::from_secs(90);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let all_well = tokio::select! {
        all_well = run(&arguments) => all_well?,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    };
    Ok(if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let started = Instant::now();
    let site = Site::build().context("building the laboratory")?;
    let names = Names::start(&site.elsewhere).await?;
    let _impostor = start_impostor(&site).await?;
    let program = gateway::install(&arguments.gateway, &arguments.dir)?;
    let echoes = Echoes::start(&site.elsewhere, &program).await?;
    control::check(&site, &arguments.dir)
        .await
        .context("the laboratory cannot see")?;
    report::headings();
    let mut rows = Vec::new();
    for scenario in ALL.iter().filter(|scenario| wanted(scenario, arguments)) {
        let places = (&site, &names, &echoes);
        let row = stage(scenario, places, &program, arguments).await?;
        report::row(&row);
        rows.push(row);
    }
    Ok(report::close(&rows, started.elapsed()))
}

fn wanted(scenario: &Scenario, arguments: &Arguments) -> bool {
    let named = &arguments.scenarios;
    named.is_empty()
        || named
            .iter()
            .any(|name| scenario.name.contains(name.as_str()))
}

/// One scenario from beginning to end.
async fn stage(
    scenario: &Scenario,
    (site, names, echoes): (&Site, &Names, &Echoes),
    program: &Path,
    arguments: &Arguments,
) -> anyhow::Result<Row> {
    let started = Instant::now();
    let places = (site, names, echoes);
    let mut lab = Lab::open(places, program.to_owned(), &arguments.dir).await?;
    let ran = tokio::time::timeout(SCENARIO_MAX, (scenario.run)(&mut lab)).await;
    let ran = ran.unwrap_or_else(|_elapsed| Err(anyhow::anyhow!("it hangs")));
    site.restore()?;
    let folder = lab.gateway.folder().to_owned();
    let (outcomes, mut faults) = lab.close(scenario.allowed).await;
    faults.splice(0..0, ran.err());
    if !faults.is_empty() {
        keep(&folder, &arguments.keep.join(scenario.name))?;
    }
    Ok(Row {
        name: scenario.name,
        took: started.elapsed(),
        outcomes,
        faults,
    })
}

/// Copies the gateway's configuration and logs to where they outlive the laboratory.
fn keep(folder: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("{}", to.display()))?;
    for file in ["gateway.toml", "gateway.log", "access.log"] {
        if folder.join(file).exists() {
            std::fs::copy(folder.join(file), to.join(file))?;
        }
    }
    report::say(&format!("  its files: {}", to.display()));
    Ok(())
}

/// A host on the internet with a certificate for kintone's names that nobody trusts.
async fn start_impostor(site: &Site) -> anyhow::Result<Sim> {
    let options = Options {
        listen: SocketAddr::from((IMPOSTOR, 443)),
        ..Options::default()
    };
    let sim = site.elsewhere.run(Sim::start(options)).await?;
    sim.tenant("other.cybozu.com", TenantSettings::default());
    ensure!(sim.addr().port() == 443, "the impostor's port");
    Ok(sim)
}
