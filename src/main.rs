//! The gateway as a program: its verbs and their exit status.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use jiff::Timestamp;
use jiff::civil::Date;
use kintone_egress::config::file::{Environment, Loaded, load};
use kintone_egress::config::place::Faults;
use kintone_egress::config::show::effective_toml;
use kintone_egress::config::token::{generate_token, hash_token};
use kintone_egress::config::{AccessLog, Config, Log};
use kintone_egress::gateway::{Gateway, Signal, Source, listen_for_signals};
use kintone_egress::operator::addresses::{Addresses, Format};
use kintone_egress::operator::ca::{self, CaOrder};
use kintone_egress::operator::ca_peers::{self, PeersOrder};
use kintone_egress::operator::doctor::examine;
use kintone_egress::operator::echo::{Echo, EchoOrder};
use kintone_egress::operator::evidence::{Form, print};
use kintone_egress::operator::explain::{Explainer, Question};
use kintone_egress::operator::fleet::{Wish, ask};
use kintone_egress::operator::readiness;
use kintone_egress::telemetry::access_log::AccessLogHandle;
use kintone_egress::telemetry::logging;

use arguments::{Arguments, Ca, Call, ConfigFile, FleetVerb, NewCa, NewPeers, Verb};

#[path = "main/arguments.rs"]
mod arguments;
#[path = "main/asking.rs"]
mod asking;
#[path = "main/limits.rs"]
mod limits;
#[path = "main/notify.rs"]
mod notify;
#[path = "main/terminal.rs"]
mod terminal;

use terminal::{BAD_CONFIG, REFUSED, read, say, single_threaded, write_bytes, write_out};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.verb {
        Verb::Serve(file) => serve(file),
        Verb::Check { file, print } => check(&file, print),
        Verb::Addresses { file, format, out } => addresses(&file, format, out.as_deref()),
        Verb::Evidence {
            file,
            domain,
            day,
            json,
        } => evidence(&file, &domain, day, json),
        Verb::Explain(call) => explain(*call),
        Verb::Doctor { file, domain } => doctor(&file, domain.as_deref()),
        Verb::Echo(order) => echo(order),
        Verb::Readiness {
            file,
            address,
            format,
        } => readiness(&file, address, format),
        Verb::Fleet { verb } => fleet(verb),
        Verb::Notify { verb } => notify::run(verb),
        Verb::Ca(Ca::Init(order)) => make_ca(order),
        Verb::Ca(Ca::Peers(order)) => make_peers(order),
        Verb::Ca(Ca::Print(file)) => print_ca(&file),
        Verb::HashToken { generate } => print_token_hash(generate),
    };
    result.unwrap_or_else(|error| {
        say(&format!("kintone-egress: {error:#}"));
        ExitCode::FAILURE
    })
}

fn readiness(
    file: &ConfigFile,
    address: Ipv4Addr,
    form: readiness::Form,
) -> anyhow::Result<ExitCode> {
    let Some(config) = read(file, &Environment::from_process()) else {
        return Ok(ExitCode::from(BAD_CONFIG));
    };
    let told = single_threaded()?.block_on(readiness::tell(&config, address, form))?;
    write_out(&told.text)?;
    Ok(if told.is_ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    })
}

fn fleet(verb: FleetVerb) -> anyhow::Result<ExitCode> {
    let (file, wish) = match verb {
        FleetVerb::Status(file) => (file, Wish::Status),
        FleetVerb::Evict { file, host, .. } => (file, Wish::Evict(host)),
        FleetVerb::Admit { file, host } => (file, Wish::Admit(host)),
    };
    asking::ask(&file, async |config| ask(config, &wish).await)
}

fn doctor(file: &ConfigFile, domain: Option<&str>) -> anyhow::Result<ExitCode> {
    let Some(config) = read(file, &Environment::from_process()) else {
        return Ok(ExitCode::from(BAD_CONFIG));
    };
    let report = single_threaded()?.block_on(examine(config, domain, Timestamp::now()))?;
    write_out(&report.to_string())?;
    Ok(match report.findings() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(REFUSED),
    })
}

fn echo(order: arguments::EchoListener) -> anyhow::Result<ExitCode> {
    logging::install(&Log::default(), logging::Format::of_stderr())?;
    let echo = Echo::open(EchoOrder {
        listen: order.listen,
        tls: order.tls_cert.zip(order.tls_key),
        connections: order.connections,
    })?;
    single_threaded()?.block_on(async {
        let mut signals = listen_for_signals().context("cannot listen for signals")?;
        let (reload, reloads) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(signal) = signals.recv().await {
                match signal {
                    Signal::End => return,
                    Signal::Reload => drop(reload.send(()).await),
                    Signal::ReopenLogs => {}
                }
            }
        });
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        anyhow::Ok(echo.serve(reloads).await?)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn serve(file: ConfigFile) -> anyhow::Result<ExitCode> {
    let environment = Environment::from_process();
    let Some(config) = read(&file, &environment) else {
        return Ok(ExitCode::from(BAD_CONFIG));
    };
    logging::install(&config.log, logging::Format::of_stderr())?;
    let log = open_access_log(&config)?;
    let source = Source {
        path: file.path,
        environment,
    };
    limits::raise_descriptors(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("proxy")
        .build()
        .context("cannot start the runtime")?;
    // Before the gateway is built: SIGHUP and SIGUSR1 would end a program that does not listen.
    let signals = runtime
        .block_on(async { listen_for_signals() })
        .context("cannot listen for signals")?;
    let gateway = Gateway::build(config, source, log)?;
    let result = runtime.block_on(async {
        tracing::info!(
            proxy = ?gateway.proxy_addresses()?,
            admin = %gateway.admin_address()?,
            public = gateway.public_address()?.map(tracing::field::display),
            "serving"
        );
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let finished = gateway.run(signals).await?;
        tracing::info!(?finished, "drained");
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_background();
    result
}

fn check(file: &ConfigFile, print: bool) -> anyhow::Result<ExitCode> {
    let (config, told) = match load(&file.path, &Environment::from_process()) {
        Ok(Loaded { config, warnings }) => (Some(config), warnings),
        Err(Faults(faults)) => (None, faults),
    };
    let told: String = told.iter().map(|fault| format!("{fault}\n")).collect();
    match config {
        // What is printed is a configuration, and can be fed to another program.
        Some(config) if print => {
            say(told.trim_end());
            write_out(&effective_toml(&config))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(_) => write_out(&told).map(|()| ExitCode::SUCCESS),
        None => write_out(&told).map(|()| ExitCode::from(BAD_CONFIG)),
    }
}

fn addresses(
    file: &ConfigFile,
    format: Option<Format>,
    out: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let Some(config) = read(file, &Environment::from_process()) else {
        return Ok(ExitCode::from(BAD_CONFIG));
    };
    let told = Addresses::new(&config, Timestamp::now()).tell(format, out)?;
    told.said.iter().for_each(|line| say(line));
    write_bytes(&told.printed)?;
    Ok(ExitCode::SUCCESS)
}

fn evidence(file: &ConfigFile, domain: &str, day: Date, json: bool) -> anyhow::Result<ExitCode> {
    let Some(config) = read(file, &Environment::from_process()) else {
        return Ok(ExitCode::from(BAD_CONFIG));
    };
    let form = if json { Form::Json } else { Form::Text };
    write_out(&print(&config, domain, day, form, Timestamp::now())?)?;
    Ok(ExitCode::SUCCESS)
}

fn explain(call: Call) -> anyhow::Result<ExitCode> {
    let Some(config) = read(&call.file, &Environment::from_process()) else {
        return Ok(ExitCode::from(BAD_CONFIG));
    };
    let question = Question {
        user: call.user,
        tenant: call.tenant,
        mode: call.mode,
        from: call.from,
        method: call.method,
        url: call.url,
    };
    let explanation = Explainer::new(Arc::new(config)).explain(&question);
    write_out(&explanation.to_string())?;
    Ok(match explanation.refused() {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::from(REFUSED),
    })
}

fn make_ca(order: NewCa) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let named = || format!("kintone-egress CA {}", now.strftime("%Y-%m-%d"));
    let order = CaOrder {
        out: order.out,
        name: order.name.unwrap_or_else(named),
        organization: order.organization,
        zones: order.zones,
        life: order.days * DAY,
    };
    write_out(&ca::init(&order, now)?)?;
    Ok(ExitCode::SUCCESS)
}

fn make_peers(order: NewPeers) -> anyhow::Result<ExitCode> {
    let order = PeersOrder {
        out: order.out,
        hosts: order.hosts,
        life: Duration::from_secs(u64::from(order.days) * 24 * 3600),
    };
    write_out(&ca_peers::make(&order, Timestamp::now())?)?;
    Ok(ExitCode::SUCCESS)
}

fn print_ca(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let Some(config) = read(file, &Environment::from_process()) else {
        return Ok(ExitCode::from(BAD_CONFIG));
    };
    write_out(&ca::print(&config)?)?;
    Ok(ExitCode::SUCCESS)
}

fn print_token_hash(generate: bool) -> anyhow::Result<ExitCode> {
    if generate {
        let token = generate_token()?;
        let hash = hash_token(token.as_bytes()).to_hex();
        write_out(&format!(
            "token        = \"{token}\"\ntoken_sha256 = \"{hash}\"\n"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut token = Vec::new();
    std::io::stdin()
        .read_to_end(&mut token)
        .context("cannot read the token")?;
    anyhow::ensure!(
        !token.trim_ascii().is_empty(),
        "there is no token on standard input; pipe one in, or use --generate"
    );
    write_out(&format!("{}\n", hash_token(&token).to_hex()))?;
    Ok(ExitCode::SUCCESS)
}

fn open_access_log(config: &Config) -> anyhow::Result<AccessLogHandle> {
    Ok(match &config.log.access {
        AccessLog::Stdout => AccessLogHandle::stdout()?,
        AccessLog::Off => AccessLogHandle::off(),
        AccessLog::File(path) => AccessLogHandle::file(path)?,
    })
}
