//! Connects to another host: TCP, TLS, and the question whether it is ready.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::failure::Unreached;
use super::other::Other;
use super::place::{Line, Place, Task};
use crate::client::Client;
use crate::tls::PeerTls;

/// What another host is asked first.
const QUESTION: &str = "/.kintone-egress/ready";

/// Idle time before the kernel probes a connection, and between its probes: a host that has lost its
/// power is noticed within half a minute.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(10))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// How long sent data may stay without acknowledgement (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes a connection that the other host has agreed to. `nothing` is a body without bytes. The caller
/// bounds the time.
pub(super) async fn connect<B>(
    http: &http1::Builder,
    tls: &PeerTls,
    other: &Other<B>,
    place: Place,
    nothing: B,
) -> Result<Line<B>, Unreached>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(other.address)
        .await
        .map_err(Unreached::Connect)?;
    let socket = SockRef::from(&stream);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&KEEPALIVE))
        .and_then(|()| socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
    set.map_err(Unreached::Connect)?;
    let stream = tls.connect(&other.name, stream).await?;
    let made = http.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = made.map_err(Unreached::Broken)?;
    let running = tokio::spawn(async move {
        // Its end, good or bad, is told to the call that uses it, or shows in `is_closed`.
        let _ = connection.with_upgrades().await;
    });
    let task = Task(running.abort_handle());
    let mut question = Request::new(nothing);
    *question.uri_mut() = http::Uri::from_static(QUESTION);
    let host = HeaderValue::from_str(&other.name);
    let host = host.unwrap_or(HeaderValue::from_static("peer"));
    question.headers_mut().insert(header::HOST, host);
    let answer = sender.send_request(question).await;
    let answer = answer.map_err(Unreached::Broken)?;
    let status = answer.status();
    let rest = answer.into_body().collect().await;
    rest.map_err(Unreached::Broken)?;
    if !status.is_success() {
        return Err(Unreached::NotReady(status.as_u16()));
    }
    sender.ready().await.map_err(Unreached::Broken)?;
    Ok(Line {
        client: Client::new(sender, running),
        task,
        place,
    })
}
