//! HTTP/1 on one connection, from its first byte to the close.

use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::server::TlsStream;
use tower::{Service, ServiceExt};

use crate::config::Limits;
use crate::drain::{Drain, Stage};
use crate::model::Detail;

use super::connection::{Connection, Stay};
use super::guard::{Guard, Hooks};
use super::linger::{LINGER_TIME, end_here, has_unread, linger_after};
use super::peers::PeerName;
use super::pulse::{Expired, Phase};
use super::socket::Socket;
use super::within::Parting;

/// The smallest buffer that hyper accepts, in bytes.
const SMALLEST_BUFFER: usize = 8 << 10;

/// Beyond any limit: a timer that is set so far is as good as none.
pub(super) const FAR: Duration = Duration::from_secs(365 * 86400);

/// How HTTP on a connection came to its end.
pub(super) enum End {
    /// hyper is done: closed by either side, or upgraded.
    Done(Result<(), hyper::Error>),
    /// A limit was reached.
    Expired(Expired),
    /// It was idle when the drain stopped taking work.
    Idle,
    /// The drain ended it.
    Cut,
}

/// A connection of hyper's.
trait Http: Future<Output = Result<(), hyper::Error>> {
    /// Ends it after the call at hand.
    fn leave(self: Pin<&mut Self>);
}

/// Serves `connection` until it closes, is upgraded, runs into a limit or is drained.
pub(super) async fn serve_connection<S, B>(connection: Arc<Connection>, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let terms = Arc::clone(connection.terms());
    let end = serve_http(&connection, service).await;
    match end {
        End::Done(result) => {
            if result.is_ok() && !connection.is_end_sent() && !connection.is_granted() {
                // hyper lets go of a connection whose upgrade was refused as if it had been taken over.
                end_here(&connection);
            }
            if let Err(error) = result {
                tracing::debug!(client = %connection.client(), %error, "connection ended");
                if error.is_parse() && !connection.is_end_sent() {
                    answer_unparsable(&connection, &terms.hooks);
                }
            }
            linger_after(&connection, &terms.drain).await;
        }
        End::Expired(expired) => expired.tell(&terms.hooks),
        End::Idle | End::Cut => {}
    }
}

async fn serve_http<S, B>(connection: &Arc<Connection>, service: S) -> End
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let terms = connection.terms();
    let limits = terms.limits.load_full();
    let service = service_fn(|request| {
        connection.call_begins();
        let connection = Arc::clone(connection);
        answer(connection, service.clone(), &terms.drain, request)
    });
    let socket = Socket::new(Arc::clone(connection));
    let hooks = terms.hooks.clone();
    let guard = Guard::new(Arc::clone(connection), socket, hooks, limits.head_size);
    let http = builder(&limits)
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    drive(connection, pin!(http), &limits).await
}

/// Serves HTTP/1 on `stream`, inside a connection that was granted, until it closes, runs into a
/// limit or is drained.
pub(super) async fn serve_secured<S, B>(stream: TlsStream<Socket>, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let connection = Arc::clone(stream.get_ref().0.connection());
    let terms = connection.terms();
    let limits = terms.limits.load_full();
    let service = service_fn(|request| {
        connection.call_begins();
        let connection = Arc::clone(&connection);
        answer(connection, service.clone(), &terms.drain, request)
    });
    let hooks = terms.hooks.clone();
    let guard = Guard::new(Arc::clone(&connection), stream, hooks, limits.head_size);
    let mut http = builder(&limits).serve_connection(TokioIo::new(guard), service);
    let end = drive(&connection, Pin::new(&mut http), &limits).await;
    let mut guard = http.into_parts().io.into_inner();
    match end {
        End::Done(Ok(())) if connection.is_end_sent() => {}
        // An upgrade that was refused, as above.
        End::Done(Ok(())) => finish(&mut guard).await,
        End::Done(Err(error)) => {
            tracing::debug!(client = %connection.client(), %error, "connection ended");
            if error.is_parse() && !connection.is_end_sent() {
                guard.answer_instead(400);
                finish(&mut guard).await;
            }
        }
        End::Expired(expired) => {
            expired.tell(&terms.hooks);
            if expired == Expired::Idle {
                finish(&mut guard).await;
            }
            return;
        }
        End::Idle => return finish(&mut guard).await,
        End::Cut => return,
    }
    linger_after(&connection, &terms.drain).await;
}

/// Serves HTTP/1 on `stream` as [`serve_connection`] does, CONNECT included; the other side is another
/// host of ours, which each request tells by `peer`.
pub(super) async fn serve_peer<S, B>(stream: TlsStream<Socket>, peer: PeerName, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let connection = Arc::clone(stream.get_ref().0.connection());
    let terms = connection.terms();
    let limits = terms.limits.load_full();
    let service = service_fn(|mut request: Request<Incoming>| {
        connection.call_begins();
        request.extensions_mut().insert(peer.clone());
        let connection = Arc::clone(&connection);
        answer(connection, service.clone(), &terms.drain, request)
    });
    let hooks = terms.hooks.clone();
    let guard = Guard::new(Arc::clone(&connection), stream, hooks, limits.head_size);
    let http = builder(&limits)
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    match drive(&connection, pin!(http), &limits).await {
        End::Done(_) if connection.is_granted() => {}
        End::Done(_) => linger_after(&connection, &terms.drain).await,
        End::Expired(expired) => expired.tell(&terms.hooks),
        End::Idle | End::Cut => {}
    }
}

/// Sends our last bytes, and TLS's word that they are.
async fn finish(guard: &mut Guard<TlsStream<Socket>>) {
    // Nobody waits for a caller that does not read.
    let _ = timeout(LINGER_TIME, guard.finish()).await;
}

/// Polls `http` until its end or a limit, and through the stages of the drain.
async fn drive<H: Http>(connection: &Connection, mut http: Pin<&mut H>, limits: &Limits) -> End {
    let timer = pin!(sleep_until(Instant::now() + limits.head_timeout.min(FAR)));
    let mut alarm = Alarm {
        connection,
        limits,
        timer,
    };
    let mut stage = connection.terms().drain.watch();
    let mut closing = false;
    loop {
        let next = if closing {
            Stage::Cutting
        } else {
            Stage::Stopping
        };
        tokio::select! {
            biased;
            end = poll_fn(|cx| match http.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(End::Done(result)),
                Poll::Pending => alarm.poll(cx).map(End::Expired),
            }) => return end,
            _ = stage.wait_for(|stage| *stage >= next) => {}
        }
        if closing {
            return End::Cut;
        }
        closing = true;
        match connection.phase() {
            // The answer to a call on its way will say `Connection: close`, and so end this.
            Phase::Head => {}
            Phase::Fresh | Phase::Idle if has_unread(connection.stream()) => {}
            Phase::Fresh | Phase::Idle => return End::Idle,
            Phase::Busy | Phase::Upgraded => http.as_mut().leave(),
        }
    }
}

impl<I, S, B> Http for http1::Connection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: Body + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> Http for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl Expired {
    /// Tells that it bit.
    pub(super) fn tell(self, hooks: &Hooks) {
        (hooks.limit_hit)(match self {
            Self::Head => Detail::HeadTimeout,
            Self::Stall => Detail::CallerStalled,
            Self::Idle => Detail::CallerIdle,
        });
    }
}

/// The service's answer, ready for hyper.
async fn answer<S, B>(
    connection: Arc<Connection>,
    service: S,
    drain: &Drain,
    mut request: Request<Incoming>,
) -> Result<Response<Answer<B>>, S::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    let connect = request.method() == Method::CONNECT;
    let old = request.version() < Version::HTTP_11;
    request.extensions_mut().insert(Arc::clone(&connection));
    let interim = connection.interim();
    if !old {
        interim.open();
    }
    let mut answering = pin!(service.oneshot(request));
    let answered = poll_fn(|cx| {
        interim.register(cx);
        answering.as_mut().poll(cx)
    });
    let mut answer = answered.await?;
    poll_fn(|cx| interim.poll_close(cx)).await;
    let tunnel = connect && answer.status().is_success();
    if tunnel {
        connection.grant();
    }
    // Nothing behind a refused CONNECT may be run as a request (RFC 9931), and a connection of
    // HTTP/1.0 is not kept, though its caller may ask for it (RFC 9112 section 9.3).
    let closes = connect
        || old
        || drain.stage() > Stage::Serving
        || connection.stay() == Stay::OneCall
        || answer.extensions_mut().remove::<Parting>().is_some();
    if !tunnel && closes {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
        if old {
            // Else hyper would add what was asked for.
            *answer.version_mut() = Version::HTTP_10;
        }
    }
    Ok(answer.map(|body| Answer { body, connection }))
}

fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // hyper's own would be the keep-alive limit as well; `Alarm` tells the two apart.
        .header_read_timeout(None)
        .max_header_size(limits.head_size)
        .max_buf_size(limits.head_size.max(SMALLEST_BUFFER))
        .preserve_header_case(true)
        // A caller that closes its side is the handler's to judge (`Connection::caller_gone`).
        .half_close(true)
        .keep_alive(true);
    builder
}

/// Watches the limits of a connection. The timer is moved only when it would ring too late: between
/// calls in quick succession it is left alone, and looks again when it rings.
pub(super) struct Alarm<'a> {
    pub(super) connection: &'a Connection,
    pub(super) limits: &'a Limits,
    pub(super) timer: Pin<&'a mut Sleep>,
}

impl Alarm<'_> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            let deadline = self.connection.deadline(self.limits);
            if let Some((at, _)) = deadline
                && at < self.timer.deadline()
            {
                self.timer.as_mut().reset(at);
            }
            ready!(self.timer.as_mut().poll(cx));
            match deadline {
                Some((at, expired)) if at <= Instant::now() => return Poll::Ready(expired),
                Some((at, _)) => self.timer.as_mut().reset(at),
                None => self.timer.as_mut().reset(Instant::now() + FAR),
            }
        }
    }
}

/// The body of an answer, which says when hyper is done with it.
struct Answer<B> {
    body: B,
    connection: Arc<Connection>,
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.connection.answer_ends();
    }
}

/// Answers what hyper refuses without a word, such as the preface of HTTP/2.
fn answer_unparsable(connection: &Connection, hooks: &Hooks) {
    let answer = (hooks.bare_answer)(400, connection.client());
    // Nothing was written before, so that the answer fits into the socket's buffer.
    if connection.stream().try_write(&answer).is_ok() {
        end_here(connection);
    }
}
