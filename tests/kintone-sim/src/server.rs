//! Connections: accepting them, TLS, and driving hyper until a side, or a fault, ends them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::call;
use crate::fault::{FaultKind, Stage};
use crate::tap::Tap;
use crate::tcp::{End, SharedTcp};
use crate::tenant::WhenClientLeaves;
use crate::tls::Shown;
use crate::wire::{Next, Order, Wire};
use crate::world::{World, domain_of};

/// How long a client may take for its handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
/// How often a stalled connection looks whether its client has gone.
const STALL_LOOK: Duration = Duration::from_millis(20);

/// Accepts until the simulator stops.
pub(crate) async fn accept(listener: TcpListener, world: Arc<World>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = world.stop.cancelled() => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                let Ok(local) = tcp.local_addr() else {
                    continue;
                };
                let socket = world.book.open_socket(peer, local);
                let world = Arc::clone(&world);
                tokio::spawn(async move {
                    let stop = world.stop.clone();
                    // How a connection ended is in the ledger's figures; its error is of no further use.
                    let _ = stop
                        .run_until_cancelled(serve(
                            tcp,
                            Peer {
                                socket,
                                peer,
                                local_port: local.port(),
                            },
                            Arc::clone(&world),
                        ))
                        .await;
                    let closed = world.book.stamp();
                    world
                        .book
                        .socket(socket, |socket| socket.closed = Some(closed));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Whom a connection is from.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) socket: usize,
    pub(crate) peer: std::net::SocketAddr,
    /// Where it arrived.
    pub(crate) local_port: u16,
}

/// What a request knows of its connection.
pub(crate) struct Connection {
    pub(crate) world: Arc<World>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) peer: Peer,
    pub(crate) sni: Option<String>,
}

async fn serve(tcp: TcpStream, peer: Peer, world: Arc<World>) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let tcp = SharedTcp(Arc::new(tcp));
    let handshake = handshake(&tcp, peer, &world);
    let Ok(shaken) = tokio::time::timeout(HANDSHAKE_MAX, handshake).await else {
        return Ok(());
    };
    let Some((tls, sni)) = shaken? else {
        return Ok(());
    };
    world
        .book
        .socket(peer.socket, |socket| socket.tls_ok = true);
    drive(tls, tcp, peer, sni, world).await
}

/// The TLS stream and the server name; `None` when a fault ended the connection.
async fn handshake(
    tcp: &SharedTcp,
    peer: Peer,
    world: &World,
) -> io::Result<Option<(TlsStream<SharedTcp>, Option<String>)>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp.clone()).await?;
    let sni = start
        .client_hello()
        .server_name()
        .map(str::to_ascii_lowercase);
    world
        .book
        .socket(peer.socket, |socket| socket.sni.clone_from(&sni));
    let domain = domain_of(sni.as_deref().unwrap_or_default());
    let fault = world.faults.hit(Stage::Handshake, &domain, "", "");
    if fault.is_some() {
        world.book.note(None, |totals, _| totals.faults += 1);
    }
    if fault == Some(FaultKind::TlsReset) {
        tcp.reset_on_close();
        return Ok(None);
    }
    if fault == Some(FaultKind::TlsStall) {
        stall(tcp).await;
        return Ok(None);
    }
    if let Some(FaultKind::TlsSlow { wait_ms }) = fault {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
    let shown = fault.and_then(|fault| fault.shown()).unwrap_or(Shown::Good);
    let tls = start.into_stream(world.certificates.config(shown)).await?;
    Ok(Some((tls, sni)))
}

async fn drive(
    tls: TlsStream<SharedTcp>,
    tcp: SharedTcp,
    peer: Peer,
    sni: Option<String>,
    world: Arc<World>,
) -> io::Result<()> {
    let settings = sni
        .as_deref()
        .and_then(|sni| world.tenant(sni))
        .map(|tenant| tenant.settings());
    let idle = settings.as_ref().and_then(|settings| {
        let draw = crate::draw::nth(settings.latency.seed, peer.socket as u64);
        let later = draw % (settings.keep_alive_jitter_ms + 1);
        let after = settings.keep_alive_idle_ms? + later;
        Some(Duration::from_millis(after))
    });
    let work_stops =
        settings.is_some_and(|settings| settings.client_left == WhenClientLeaves::Stops);
    let wire = Wire::new(idle);
    let connection = Arc::new(Connection {
        world: Arc::clone(&world),
        wire: Arc::clone(&wire),
        peer,
        sni,
    });
    let service = service_fn(move |request| call::serve(Arc::clone(&connection), request));
    let mut http = http1::Builder::new()
        .timer(TokioTimer::new())
        .half_close(!work_stops)
        .header_read_timeout(None)
        .serve_connection(
            TokioIo::new(Tap::new(tls, tcp.clone(), Arc::clone(&wire))),
            service,
        );
    let order = loop {
        let idle_until = match wire.next() {
            Next::Order(order) => break order,
            Next::IdleUntil(until) => Some(until),
            Next::Nothing => None,
        };
        let idle = async {
            match idle_until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = &mut http => {
                let end = if ended.is_err() { End::Reset } else { tcp.end() };
                note_undelivered(&world, &wire, end);
                return Ok(());
            }
            () = wire.changed() => continue,
            () = tcp.reset_by_peer() => {
                note_undelivered(&world, &wire, End::Reset);
                return Ok(());
            }
            // Not if a request has come meanwhile.
            () = idle => match wire.next() {
                Next::Order(order) => break order,
                Next::IdleUntil(until) if until <= Instant::now() => break Order::Close,
                Next::IdleUntil(_) | Next::Nothing => continue,
            },
        }
    };
    if matches!(order, Order::Stall) {
        // The request stays in hyper, and keeps its place, until the client goes.
        tokio::select! {
            _ = &mut http => {}
            () = stall(&tcp) => {}
        }
        return Ok(());
    }
    let tls = http.into_parts().io.into_inner().into_inner();
    carry_out(order, tls, tcp.clone()).await?;
    if tcp.holds_a_request() {
        world.book.note(None, |totals, _| totals.unread += 1);
    }
    Ok(())
}

async fn carry_out(order: Order, mut tls: TlsStream<SharedTcp>, tcp: SharedTcp) -> io::Result<()> {
    match order {
        Order::Reset => tcp.reset_on_close(),
        Order::Close => tls.shutdown().await?,
        Order::Raw(bytes) => {
            tls.write_all(&bytes).await?;
            tls.shutdown().await?;
        }
        Order::Stall => stall(&tcp).await,
    }
    Ok(())
}

fn note_undelivered(world: &World, wire: &Wire, end: End) {
    if let Some(line) = wire.undelivered(end) {
        world.book.left(line);
    }
}

/// Waits until the client has gone, reading nothing.
async fn stall(tcp: &SharedTcp) {
    while !std::future::poll_fn(|cx| std::task::Poll::Ready(tcp.is_read_closed(cx))).await {
        tokio::time::sleep(STALL_LOOK).await;
    }
}
