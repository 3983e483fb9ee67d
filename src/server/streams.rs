//! HTTP/2 inside a connection: many calls at once, each a stream with its own caller to lose.
//!
//! hyper drops a call whose stream the caller resets. Ours must go on: what is at kintone is read to
//! its end. So a call that is dropped before its answer is told that its caller has left, and runs on
//! by itself (`Departing`). An answer that the caller does not take is ended by the stream's own task
//! (`Open`), and takes no other call with it.

use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::server::TlsStream;
use tower::{Service, ServiceExt};

use crate::config::Limits;
use crate::drain::Stage;
use crate::model::Detail;

use super::connection::{Connection, Stay};
use super::linger::{LINGER_TIME, linger_after};
use super::pulse::Expired;
use super::serve::{Alarm, End, FAR};
use super::socket::Socket;
use super::within::Parting;

/// Bytes of an answer that wait for the caller's window.
const SEND_BUFFER: usize = 64 << 10;

/// Bytes that a caller may send before they are read: of a stream, of all together.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Streams that the caller opened and reset before anybody looked; with more the connection ends
/// (CVE-2023-44487).
const UNSEEN_RESETS_MAX: usize = 20;

/// Streams that were reset because of the caller's faults; with more the connection ends
/// (CVE-2025-8671).
const FAULTS_MAX: usize = 100;

/// Serves the calls on `stream` until it closes, runs into a limit or is drained.
pub(super) async fn serve<S, B>(stream: TlsStream<Socket>, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let line = Arc::clone(stream.get_ref().0.connection());
    let terms = Arc::clone(line.terms());
    let limits = terms.limits.load_full();
    let calls = Calls(Arc::new(Shared {
        line: Arc::clone(&line),
        newest: Mutex::new(None),
        changed: Notify::new(),
        parting: AtomicBool::new(false),
        stall_timeout: limits.stall_timeout,
    }));
    let service = {
        let calls = calls.clone();
        service_fn(move |request| calls.begin(service.clone(), request))
    };
    let http = builder(calls.clone(), &limits).serve_connection(TokioIo::new(stream), service);
    let mut http = pin!(http);
    let ended = drive(&calls.0, http.as_mut(), &limits, |http| {
        http.graceful_shutdown();
    });
    match ended.await {
        End::Done(result) => {
            if let Err(error) = result {
                tracing::debug!(client = %line.client(), %error, "connection ended");
            }
            line.end_sent();
            linger_after(&line, &terms.drain).await;
        }
        End::Expired(expired) => expired.tell(&terms.hooks),
        End::Idle | End::Cut => {}
    }
}

fn builder(calls: Calls, limits: &Limits) -> http2::Builder<Calls> {
    let mut builder = http2::Builder::new(calls);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.head_size).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
        .max_local_error_reset_streams(FAULTS_MAX)
        // A caller that is gone without a word is found out while its calls wait.
        .keep_alive_interval(limits.stall_timeout)
        .keep_alive_timeout(limits.stall_timeout);
    builder
}

/// Polls `http` until its end or a limit. Once the drain is announced, or nobody has called for
/// long, the caller is told to go elsewhere (GOAWAY), in a moment in which no call runs: several
/// clients give their running calls up when they hear it, against RFC 9113 section 6.8, and then
/// nobody knows what became of them.
async fn drive<H>(
    shared: &Shared,
    mut http: Pin<&mut H>,
    limits: &Limits,
    leave: impl Fn(Pin<&mut H>),
) -> End
where
    H: Future<Output = Result<(), hyper::Error>>,
{
    let line = &*shared.line;
    let leaving_limits = Limits {
        caller_idle: LINGER_TIME.min(limits.caller_idle),
        ..limits.clone()
    };
    let timer = pin!(sleep_until(Instant::now() + limits.caller_idle.min(FAR)));
    let mut alarm = Alarm {
        connection: line,
        limits,
        timer,
    };
    let mut stage = line.terms().drain.watch();
    let mut farewell = Farewell::Not;
    loop {
        let next = match farewell {
            Farewell::Not => Stage::Announced,
            Farewell::Due | Farewell::Told => Stage::Cutting,
        };
        tokio::select! {
            biased;
            end = poll_fn(|cx| match http.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(End::Done(result)),
                Poll::Pending => alarm.poll(cx).map(End::Expired),
            }) => match end {
                End::Expired(Expired::Idle) if farewell == Farewell::Told => return End::Idle,
                End::Expired(Expired::Idle) => {
                    Expired::Idle.tell(&line.terms().hooks);
                    farewell = Farewell::Due;
                }
                end @ (End::Done(_) | End::Expired(_) | End::Idle | End::Cut) => return end,
            },
            () = async { drop(stage.wait_for(|stage| *stage >= next).await) } => {
                if next == Stage::Cutting {
                    return last_words(http).await;
                }
                farewell = Farewell::Due;
            }
            // If nothing else, the timer is to be set anew.
            () = shared.changed.notified() => {
                let stays = line.stay() == Stay::Long && !shared.parting.load(Ordering::Relaxed);
                if farewell == Farewell::Not && !stays {
                    farewell = Farewell::Due;
                }
            }
        }
        if farewell == Farewell::Due && line.is_without_streams() {
            farewell = Farewell::Told;
            line.touch();
            alarm.limits = &leaving_limits;
            leave(http.as_mut());
        }
    }
}

/// Whether the caller is to go elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Farewell {
    Not,
    /// It is, and has not been told.
    Due,
    Told,
}

/// Lets the answers go out by which the cut calls are refused: each is made in a task of its own.
async fn last_words<H>(http: Pin<&mut H>) -> End
where
    H: Future<Output = Result<(), hyper::Error>>,
{
    // Nobody waits for a caller that does not read.
    match timeout(LINGER_TIME, http).await {
        Ok(result) => End::Done(result),
        Err(_) => End::Cut,
    }
}

/// The calls of one connection, and what runs their streams.
#[derive(Clone)]
struct Calls(Arc<Shared>);

struct Shared {
    line: Arc<Connection>,
    /// The stream that was opened last, until its task takes it: hyper makes the task right behind
    /// the call.
    newest: Mutex<Option<Open>>,
    /// A stream has ended.
    changed: Notify,
    /// An answer says that the connection is to end.
    parting: AtomicBool,
    stall_timeout: Duration,
}

/// A stream, which counts as open until this is dropped.
struct Open {
    stream: Arc<Connection>,
    shared: Arc<Shared>,
}

impl Calls {
    /// Hands a request to the service.
    fn begin<S, B>(&self, service: S, mut request: Request<Incoming>) -> Departing<B, S::Error>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
        S::Future: Send,
    {
        let shared = &self.0;
        let stream = Arc::new(Connection::stream_of(&shared.line));
        shared.line.stream_begins();
        let open = Open {
            stream: Arc::clone(&stream),
            shared: Arc::clone(shared),
        };
        *shared.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
        request.extensions_mut().insert(Arc::clone(&stream));
        Departing {
            answering: Some(Box::pin(service.oneshot(request))),
            shared: Arc::clone(shared),
            stream,
        }
    }
}

impl<F> Executor<F> for Calls
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let mut newest = self.0.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let open = newest.take();
        let drain = &self.0.line.terms().drain;
        tokio::spawn(drain.track(async move {
            match open {
                Some(open) => open.run(task).await,
                None => task.await,
            }
        }));
    }
}

/// How a stream's task came to its end.
#[derive(PartialEq, Eq)]
enum Over {
    Done,
    Stalled,
}

impl Open {
    /// Runs hyper's part of the stream, unless the caller takes nothing of its answer for too long.
    async fn run(self, task: impl Future<Output = ()>) {
        let (mut task, limit) = (pin!(task), self.shared.stall_timeout.min(FAR));
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        let over = poll_fn(|cx| {
            if task.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Over::Done);
            }
            loop {
                let Some(since) = self.stream.blocked() else {
                    return Poll::Pending;
                };
                let until = since + limit;
                let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
                ready!(timer.as_mut().poll(cx));
                if until <= Instant::now() {
                    return Poll::Ready(Over::Stalled);
                }
                timer.as_mut().reset(until);
            }
        });
        if over.await == Over::Stalled {
            (self.shared.line.terms().hooks.limit_hit)(Detail::CallerStalled);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.line.stream_ends();
        self.shared.changed.notify_one();
    }
}

/// A call on its way to an answer. Dropped before, it runs on for a caller that has left.
struct Departing<B, E>
where
    B: 'static,
    E: 'static,
{
    answering: Option<Answering<B, E>>,
    shared: Arc<Shared>,
    stream: Arc<Connection>,
}

type Answering<B, E> = Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>;

impl<B, E> Future for Departing<B, E> {
    type Output = Result<Response<Pieces<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answering) = &mut self.answering else {
            return Poll::Pending;
        };
        let answered = ready!(answering.as_mut().poll(cx));
        self.answering = None;
        let stream = Arc::clone(&self.stream);
        Poll::Ready(answered.map(|mut answer| {
            // A word about a connection of HTTP/1 (RFC 9113 section 8.2.2): a stream ends anyway.
            answer.headers_mut().remove(CONNECTION);
            if answer.extensions_mut().remove::<Parting>().is_some() {
                // Looked at when this stream ends.
                self.shared.parting.store(true, Ordering::Relaxed);
            }
            answer.map(|body| Pieces { body, stream })
        }))
    }
}

impl<B, E> Drop for Departing<B, E> {
    fn drop(&mut self) {
        let Some(answering) = self.answering.take() else {
            return;
        };
        self.stream.was_reset();
        if let Ok(runtime) = Handle::try_current() {
            let drain = &self.stream.terms().drain;
            runtime.spawn(drain.track(async move { drop(answering.await) }));
        }
    }
}

/// The body of an answer, which notes since when the caller has not taken a piece.
struct Pieces<B> {
    body: B,
    stream: Arc<Connection>,
}

impl<B> Body for Pieces<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        // hyper asks when there is room in the caller's window.
        self.stream.wrote(&Poll::Ready(()));
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.stream.wrote::<()>(&Poll::Pending);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
