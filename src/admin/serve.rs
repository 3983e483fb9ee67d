//! A listener with a thread and a runtime of its own.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::guard::Peer;

/// Connections of operators served at once; further ones wait to be accepted.
pub const CONNECTIONS: usize = 64;

/// Time for a request's head, and between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest life of a connection, so that one who reads slowly keeps no place for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// Pause after a connection could not be accepted for want of a resource.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long answers under way may take after the end was told.
const GRACE: Duration = Duration::from_secs(2);

/// Serves `router` on `listener`, in a thread called `name`, at most `connections` at once, until
/// `shutdown` resolves; answers under way get two more seconds.
///
/// # Errors
/// If the thread or its runtime cannot be made, or the listener not be used without blocking.
pub fn spawn(
    name: &'static str,
    listener: TcpListener,
    router: Router,
    connections: usize,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let listener = {
        let _entered = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    thread::Builder::new().name(name.into()).spawn(move || {
        runtime.block_on(serve(name, listener, router, connections, shutdown));
    })
}

async fn serve(
    name: &'static str,
    listener: tokio::net::TcpListener,
    router: Router,
    connections: usize,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(connections));
    let ending = CancellationToken::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let router = router.clone();
                let ending = ending.clone();
                tokio::spawn(async move {
                    serve_connection(stream, Peer(peer), router, ending).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, listener = name, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    ending.cancel();
    let all = u32::try_from(connections).unwrap_or(u32::MAX);
    let _ = timeout(GRACE, places.acquire_many(all)).await;
}

async fn serve_connection(
    stream: tokio::net::TcpStream,
    peer: Peer,
    router: Router,
    ending: CancellationToken,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let router = router.clone();
        async move {
            let answered: Result<_, Infallible> = router.oneshot(request.map(Body::new)).await;
            answered
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let life = async {
        tokio::select! {
            done = connection.as_mut() => return done,
            () = ending.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    if let Ok(Err(error)) = timeout(CONNECTION_LIFE, life).await {
        tracing::debug!(%error, "a connection broke");
    }
}
