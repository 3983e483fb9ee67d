//! A webhook as a server of the test: what was posted to it, and the statuses it answered with.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use crate::schema;

/// The path of the URL; no output may contain it.
pub(crate) const SECRET_PATH: &str = "/services/canary-hook-77c1";

/// How long a message may take to arrive.
const PATIENCE: Duration = Duration::from_secs(40);

/// A webhook. Dropped, it is gone.
pub(crate) struct Hook {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    serving: Option<AbortHandle>,
}

#[derive(Default)]
struct Shared {
    posted: Vec<Posted>,
    answers: VecDeque<u16>,
    always: Option<u16>,
    retry_after: Option<&'static str>,
}

/// One POST.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    /// When.
    pub(crate) at: Instant,
    /// What it was answered with.
    pub(crate) status: u16,
    /// The header that makes it known.
    pub(crate) id: String,
    /// The JSON.
    pub(crate) body: Value,
}

impl Hook {
    /// Starts one in the clear.
    pub(crate) async fn start() -> Self {
        let mut hook = Self::stopped().await;
        hook.resume().await;
        hook
    }

    /// One that does not run yet; its port is free.
    pub(crate) async fn stopped() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::default(),
            serving: None,
        }
    }

    /// Starts one over TLS.
    pub(crate) async fn start_tls(acceptor: TlsAcceptor) -> Self {
        let mut hook = Self::stopped().await;
        hook.listen(Some(acceptor)).await;
        hook
    }

    /// Starts it, or starts it again on the same port.
    pub(crate) async fn resume(&mut self) {
        self.listen(None).await;
    }

    async fn listen(&mut self, tls: Option<TlsAcceptor>) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let shared = Arc::clone(&self.shared);
        let serving = tokio::spawn(async move {
            // They end with the listener.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, shared).await;
                            }
                        }
                    }
                });
            }
        });
        self.serving = Some(serving.abort_handle());
    }

    /// Ends it; what it took stays.
    pub(crate) fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }

    /// It answers with these first.
    pub(crate) fn answer_first(&self, statuses: &[u16]) {
        self.shared().answers.extend(statuses);
    }

    /// It answers with this for ever.
    pub(crate) fn answer_always(&self, status: u16) {
        self.shared().always = Some(status);
    }

    /// It says so with every answer.
    pub(crate) fn ask_to_wait(&self, retry_after: &'static str) {
        self.shared().retry_after = Some(retry_after);
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The key of `[notify]`.
    pub(crate) fn key(&self) -> String {
        format!("webhook = \"http://{}{SECRET_PATH}?a=b\"\n", self.address)
    }

    /// `[notify]` with this webhook alone.
    pub(crate) fn table(&self, more: &str) -> String {
        format!(
            "[notify]\n{}begins_after = \"1s\"\nends_after = \"2s\"\nrest = \"1s\"\n\
             retry = \"1s\"\nretry_max = \"1s\"\n{more}\n",
            self.key()
        )
    }

    /// Every POST so far.
    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.shared().posted.clone()
    }

    /// What it took so far.
    pub(crate) fn taken(&self) -> Vec<Posted> {
        let mut posted = self.posted();
        posted.retain(|one| one.status < 300);
        posted
    }

    /// Waits until it took so many.
    pub(crate) async fn until(&self, count: usize) -> Vec<Posted> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let taken = self.taken();
            if taken.len() >= count {
                return taken;
            }
            assert!(Instant::now() < deadline, "{:?}", self.posted());
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Posted {
    /// A field of the JSON as text; empty for none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Mutex<Shared>>,
) {
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    // Whoever goes away in the middle is seen by what was posted.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Takes a POST and looks whether it is as its schema says.
async fn answer(
    request: Request<Incoming>,
    shared: Arc<Mutex<Shared>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let header = |name: &str| head.headers[name].to_str().unwrap().to_owned();
    assert_eq!(head.method, "POST");
    assert_eq!(head.uri.to_string(), format!("{SECRET_PATH}?a=b"));
    assert_eq!(header("content-type"), "application/json");
    schema::check(&body, "notice");
    let id = header("idempotency-key");
    assert_eq!(body["id"], id);
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let always = shared.always.unwrap_or(200);
    let status = shared.answers.pop_front().unwrap_or(always);
    let at = Instant::now();
    shared.posted.push(Posted {
        at,
        status,
        id,
        body,
    });
    let mut response = Response::new(Empty::new());
    if let Some(wait) = shared.retry_after {
        let headers = response.headers_mut();
        headers.insert("retry-after", HeaderValue::from_static(wait));
    }
    *response.status_mut() = status.try_into().unwrap();
    Ok(response)
}
