//! From a configuration to a running gateway and to its end: the only place that builds the parts,
//! ties them together and spawns what runs beside the calls.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower::{ServiceBuilder, service_fn};
use tower_http::catch_panic::CatchPanicLayer;

use crate::admin;
use crate::admin::ports::PortCount;
use crate::config::Config;
use crate::drain::{Drain, Finished};
use crate::egress::Egress;
use crate::fleet::exchange::Exchange;
use crate::notify::{self, Inbox};
use crate::proxy::{Inner, Outgoing, Proxy, WaysOut};
use crate::published;
use crate::quota::Quotas;
use crate::server::Server;
use crate::telemetry::access_log::AccessLogHandle;
use crate::telemetry::{LimitName, Telemetry};
use crate::tls::Authority;
use crate::tls::outbound::Outbound;

use fleet::Beginning;
use hooks::{answer_panic, hooks};
use listeners::Listeners;
use peers::Neighbours;
use source::VERSION;
use state::Running;

pub use failure::{BuildError, RunError};
pub use orders::{Signal, listen_for_signals};
pub use source::Source;

mod acceptance;
mod closures;
mod days;
mod evidence;
mod failure;
mod fleet;
mod fleet_view;
mod hooks;
mod listeners;
mod notices;
mod orders;
mod peers;
mod publication;
mod record;
mod source;
mod state;
mod verification;
mod views;

/// Longest wait for the last lines of the access log.
const LOG_FLUSH_MAX: Duration = Duration::from_secs(2);

/// How long callers wait, at the start, for what echoes say of the addresses; after that they are told
/// that none is usable.
const FIRST_VERDICTS_MAX: Duration = Duration::from_secs(1);

/// How many orders may wait to be carried out.
const ORDERS: usize = 16;

/// A gateway whose listeners are bound and which serves nobody yet.
pub struct Gateway {
    running: Arc<Running>,
    listeners: Listeners,
    /// Of a fleet that shares permits.
    beginning: Option<Beginning>,
    /// What people are told of.
    inbox: Inbox,
    commands: (mpsc::Sender<admin::Command>, mpsc::Receiver<admin::Command>),
}

impl Gateway {
    /// Builds every part and binds every listener.
    ///
    /// # Errors
    /// [`BuildError`], with the key and the remedy.
    pub fn build(config: Config, source: Source, log: AccessLogHandle) -> Result<Self, BuildError> {
        let record = record::open(&config, &source.environment)?;
        let exchange = Exchange::new(&config)?;
        let beginning = Beginning::of(exchange, &config, &source.environment, record.found())?;
        let listeners = Listeners::bind(&config)?;
        let neighbours = Neighbours::new(&config)?;
        let tls = Outbound::new(config.upstream.ca_file.as_deref())?;
        let egress: Arc<Egress<Outgoing>> = Egress::new(&config, tls)?;
        let (publisher, recorder) = publication::open(&config, &egress);
        acceptance::restore(&config, &egress);
        let authority = Authority::of(&config, None)?;
        let drain = Drain::new();
        let telemetry = Telemetry::new(&config, log.clone(), VERSION);
        let limits_hit = Arc::clone(&telemetry);
        let record = record.tell_full(move || limits_hit.limit_hit(LimitName::FlightRecord));
        let quotas = Quotas::recorded(&config, record);
        let days = days::open(&config, &telemetry)?;
        let (desk, inbox) = notify::open(&config)?;
        closures::restore(&config, &quotas);
        let limits = Arc::new(ArcSwap::from_pointee(config.limits.clone()));
        let peer_limits = Arc::new(ArcSwap::from_pointee(peers::limits(&config)));
        let config = Arc::new(config);
        let proxy_service = Proxy::new(
            published::in_force(&config, &publisher.states()),
            authority,
            quotas.clone(),
            days.clone(),
            WaysOut {
                egress: Arc::clone(&egress),
                peers: neighbours.peers.clone(),
            },
            Arc::clone(&telemetry),
            drain.clone(),
        );
        let hooks = hooks(&proxy_service, &telemetry);
        let server = Server::new(Arc::clone(&limits), drain.clone(), hooks);
        let running = Running {
            config: ArcSwap::new(config),
            source,
            server,
            proxy: proxy_service,
            quotas,
            days,
            egress,
            publisher,
            recorder,
            desk,
            changing: Mutex::default(),
            telemetry,
            drain,
            limits,
            peer_limits,
            neighbours,
            log,
            fleet: OnceLock::new(),
        };
        let running = Arc::new(running);
        Ok(Self {
            running,
            listeners,
            beginning,
            inbox,
            commands: mpsc::channel(ORDERS),
        })
    }

    /// Where callers reach the proxy.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn proxy_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.proxy_addresses()
    }

    /// Where operators reach the admin listener.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.listeners.admin.local_addr()
    }

    /// Where customers reach the public listener, if there is one.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn public_address(&self) -> io::Result<Option<SocketAddr>> {
        self.listeners.public_address()
    }

    /// The quotas, to look at from outside.
    #[must_use]
    pub fn quotas(&self) -> Quotas {
        self.running.quotas.clone()
    }

    /// The drain, to end the gateway from outside.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.running.drain.clone()
    }

    /// Serves until a signal says to end, then drains.
    ///
    /// # Errors
    /// [`RunError`] when it cannot start, or a part that must run for ever ends.
    pub async fn run(self, signals: mpsc::Receiver<Signal>) -> Result<Finished, RunError> {
        let Self {
            running,
            listeners,
            beginning,
            inbox,
            commands,
        } = self;
        let (ended, end) = tokio::sync::watch::channel(());
        let Listeners {
            proxy,
            admin,
            metrics,
            public,
            peer,
        } = listeners;
        let mut threads = serve_admin(&running, admin, metrics, commands.0, &end)?;
        if let Some(listener) = public {
            threads.push(serve_public(&running, listener, &end)?);
        }
        let mut background = JoinSet::new();
        spawn_background(&running, &mut background);
        notices::spawn(&running, inbox, &mut background);
        if let Some(beginning) = beginning {
            fleet::begin(&running, beginning, &mut background).await;
        }
        let verdicts = running.egress.verifier().first_rounds();
        let _ = tokio::time::timeout(FIRST_VERDICTS_MAX, verdicts).await;
        serve_proxy(&running, proxy)?;
        if let Some(listener) = peer {
            peers::serve(&running, listener)?;
        }
        let orders = orders::obey(Arc::clone(&running), commands.1, signals);
        let result = tokio::select! {
            finished = orders => Ok(finished),
            _ = background.join_next() => Err(RunError::Background),
        };
        drop((end, ended));
        for thread in threads {
            // A panic there has been told by the panic hook, and nothing is left to be saved.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        record::close(&running).await;
        evidence::close(&running).await;
        acceptance::save(&running).await;
        days::close(&running).await;
        fleet::take_leave(&running).await;
        let log = running.log.clone();
        let _ = tokio::task::spawn_blocking(move || log.shutdown(LOG_FLUSH_MAX)).await;
        background.shutdown().await;
        record::release(&running);
        result
    }
}

fn serve_admin(
    running: &Arc<Running>,
    listener: TcpListener,
    metrics: Option<TcpListener>,
    commands: mpsc::Sender<admin::Command>,
    end: &tokio::sync::watch::Receiver<()>,
) -> io::Result<Vec<thread::JoinHandle<()>>> {
    let admin = Arc::new(views::admin(running, commands, PortCount::default()));
    let router = admin::router(Arc::clone(&admin));
    let mut threads = vec![admin::spawn(
        "admin",
        listener,
        router,
        admin::CONNECTIONS,
        over(end),
    )?];
    if let Some(listener) = metrics {
        let router = admin::read_only_router(admin);
        threads.push(admin::spawn(
            "metrics",
            listener,
            router,
            admin::CONNECTIONS,
            over(end),
        )?);
    }
    Ok(threads)
}

fn serve_public(
    running: &Running,
    listener: TcpListener,
    end: &tokio::sync::watch::Receiver<()>,
) -> io::Result<thread::JoinHandle<()>> {
    let router = published::router(Arc::clone(&running.publisher));
    let places = running.config.load().public.connections;
    admin::spawn("public", listener, router, places, over(end))
}

/// Resolves when the gateway has ended.
fn over(end: &tokio::sync::watch::Receiver<()>) -> impl Future<Output = ()> + Send + 'static {
    let mut end = end.clone();
    // The sender says nothing; that it is gone is the word.
    async move { while end.changed().await.is_ok() {} }
}

fn spawn_background(running: &Arc<Running>, background: &mut JoinSet<()>) {
    let quotas = running.quotas.clone();
    background.spawn(async move { quotas.drive().await });
    let egress = Arc::clone(&running.egress);
    background.spawn(async move { egress.watch().await });
    let verifier = running.egress.verifier().clone();
    let dir = running.config.load().state_dir.clone();
    background.spawn(async move { verifier.run(&dir).await });
    background.spawn(days::drive(Arc::clone(running)));
    background.spawn(closures::keep(Arc::clone(running)));
    background.spawn(acceptance::keep(Arc::clone(running)));
    background.spawn(acceptance::probe(Arc::clone(running)));
    background.spawn(publication::watch(Arc::clone(running)));
    background.spawn(evidence::watch(Arc::clone(&running.recorder)));
    if let Some(peers) = running.neighbours.peers.clone() {
        background.spawn(async move { peers.watch().await });
    }
}

fn serve_proxy(running: &Arc<Running>, listeners: Vec<TcpListener>) -> io::Result<()> {
    let inside = running.proxy.clone();
    let inner = ServiceBuilder::new()
        .layer(CatchPanicLayer::custom(answer_panic))
        .service(service_fn(move |request| {
            inside.clone().handle_inside(request)
        }));
    let inner = Arc::new(Inner::new(inner));
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (proxy, inner) = (running.proxy.clone(), Arc::clone(&inner));
        let service = ServiceBuilder::new()
            .layer(CatchPanicLayer::custom(answer_panic))
            .service(service_fn(move |request| {
                proxy.clone().handle(Arc::clone(&inner), request)
            }));
        let server = running.server.clone();
        tokio::spawn(async move { server.serve(listener, service).await });
    }
    Ok(())
}
