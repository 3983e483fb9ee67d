//! The life of one connection, from accept to close.

use std::error::Error as StdError;
use std::future::{Future as _, poll_fn};
use std::io;
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
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tower::{Service, ServiceExt};

use crate::config::Limits;
use crate::drain::{Drain, Stage};
use crate::model::Detail;

use super::connection::{Connection, Expired, Phase, Stay};
use super::guard::{Guard, Hooks};

/// After our last byte, this much of what the caller still sends is read and thrown away, …
const LINGER_BYTES: usize = 256 << 10;
/// … for this long, so that the answer arrives before a reset could eat it (RFC 9112 section 9.6).
const LINGER_TIME: Duration = Duration::from_secs(2);
/// The smallest buffer that hyper accepts, in bytes.
const SMALLEST_BUFFER: usize = 8 << 10;

/// Beyond any limit: a timer that is set so far is as good as none.
const FAR: Duration = Duration::from_secs(365 * 86400);

/// How HTTP on a connection came to its end.
enum End {
    /// hyper is done: closed by either side, or upgraded.
    Done(Result<(), hyper::Error>),
    /// A limit was reached.
    Expired(Expired),
    /// It was idle when the drain stopped taking work.
    Idle,
    /// The drain ended it.
    Cut,
}

/// Serves `connection` until it closes, is upgraded, runs into a limit or is drained.
pub(super) async fn serve_connection<S, B>(
    connection: Arc<Connection>,
    service: S,
    limits: Arc<Limits>,
    drain: Drain,
    hooks: Hooks,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let end = serve_http(&connection, service, &limits, &drain, &hooks).await;
    match end {
        End::Done(result) => {
            if result.is_ok() && !connection.is_end_sent() && !connection.is_granted() {
                // hyper lets go of a connection whose upgrade was refused as if it had been taken over.
                end_here(&connection);
            }
            if let Err(error) = result {
                tracing::debug!(client = %connection.client(), %error, "connection ended");
                if error.is_parse() && !connection.is_end_sent() {
                    answer_unparsable(&connection, &hooks);
                }
            }
            linger_after(&connection, &drain).await;
        }
        End::Expired(Expired::Head) => (hooks.limit_hit)(Detail::HeadTimeout),
        End::Expired(Expired::Stall) => (hooks.limit_hit)(Detail::CallerStalled),
        End::Expired(Expired::Idle) => (hooks.limit_hit)(Detail::CallerIdle),
        End::Idle | End::Cut => {}
    }
}

async fn serve_http<S, B>(
    connection: &Arc<Connection>,
    service: S,
    limits: &Limits,
    drain: &Drain,
    hooks: &Hooks,
) -> End
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let service = service_fn(|request| {
        connection.call_begins();
        answer(Arc::clone(connection), service.clone(), drain, request)
    });
    let guard = Guard::new(Arc::clone(connection), hooks.clone(), limits.head_size);
    let http = builder(limits)
        .serve_connection(TokioIo::new(guard), service)
        .with_upgrades();
    let mut http = pin!(http);
    let timer = pin!(sleep_until(Instant::now() + limits.head_timeout.min(FAR)));
    let mut alarm = Alarm {
        connection,
        limits,
        timer,
    };
    let mut stage = drain.watch();
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
            Phase::Busy | Phase::Upgraded => http.as_mut().graceful_shutdown(),
        }
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
    let closes =
        connect || old || drain.stage() > Stage::Serving || connection.stay() == Stay::OneCall;
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
struct Alarm<'a> {
    connection: &'a Connection,
    limits: &'a Limits,
    timer: Pin<&'a mut Sleep>,
}

impl Alarm<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
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

/// Sends our last byte. It fails only on a socket that is gone.
fn end_here(connection: &Connection) {
    if shut_write(connection.stream()).is_ok() {
        connection.end_sent();
    }
}

fn shut_write(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).shutdown(std::net::Shutdown::Write)
}

/// Lets our last answer arrive where we closed first, unless the drain ends it.
async fn linger_after(connection: &Connection, drain: &Drain) {
    if connection.wants_lingering() {
        tokio::select! {
            () = linger(connection.stream()) => {}
            () = drain.cutting() => {}
        }
    }
}

/// Reads and throws away what the caller still sends, until its end or the bounds above.
async fn linger(stream: &TcpStream) {
    let discard = async {
        let mut left = LINGER_BYTES;
        while left > 0 && stream.readable().await.is_ok() {
            match discard_some(stream) {
                Ok(0) => return,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    // Whether time or bytes ran out, the connection closes.
    let _ = timeout(LINGER_TIME, discard).await;
}

fn discard_some(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; 8 << 10])
}

/// Whether bytes have arrived that nobody has read: a call may be among them.
fn has_unread(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    matches!(SockRef::from(stream).peek(&mut byte), Ok(read) if read > 0)
}
