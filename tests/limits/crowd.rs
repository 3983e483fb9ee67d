//! Callers who take and do not give.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use crate::support::{ACME, API_TOKEN, basic};

/// A call that costs the gateway nothing but an answer of its own.
const READY: &[u8] = b"GET /.kintone-egress/ready HTTP/1.1\r\nHost: gateway\r\n\r\n";

/// How long an answer may take before it counts as none.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How many connections are opened at a time.
const AT_ONCE: usize = 50;

/// How a connection ended up after one call.
#[derive(Debug)]
pub enum Greeted {
    /// Answered, and left open.
    Stays(TcpStream),
    /// Answered with `Connection: close`.
    Closes,
    /// Reset without an answer.
    Reset,
    /// Neither within [`PATIENCE`].
    Hangs,
}

/// A connection to `to` from an address of its own choice.
pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// One call that is answered by the gateway itself.
pub async fn greet(from: Ipv4Addr, to: SocketAddr) -> Greeted {
    let greeting = async {
        let mut stream = connect(from, to).await?;
        stream.write_all(READY).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().expect("a length"));
        stream.read_exact(&mut vec![0; length]).await?;
        std::io::Result::Ok((stream, text.contains("connection: close")))
    };
    match timeout(PATIENCE, greeting).await {
        Ok(Ok((stream, false))) => Greeted::Stays(stream),
        Ok(Ok((_, true))) => Greeted::Closes,
        Ok(Err(_)) => Greeted::Reset,
        Err(_) => Greeted::Hangs,
    }
}

/// So many connections that have been used once and are idle since then.
pub async fn idle(count: usize, to: SocketAddr) -> Vec<TcpStream> {
    let mut opening = JoinSet::new();
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        if opening.len() >= AT_ONCE {
            open.push(stays(opening.join_next().await));
        }
        // Few enough of each network address for its limit.
        let from = Ipv4Addr::new(127, 0, 3, 1 + (number / 3000) as u8);
        opening.spawn(greet(from, to));
    }
    while let Some(opened) = opening.join_next().await {
        open.push(stays(Some(opened)));
    }
    open
}

fn stays(greeted: Option<Result<Greeted, tokio::task::JoinError>>) -> TcpStream {
    match greeted.expect("one is opening").expect("no panic") {
        Greeted::Stays(stream) => stream,
        Greeted::Closes | Greeted::Reset | Greeted::Hangs => panic!("no place to be idle in"),
    }
}

/// A caller whose head comes byte by byte and never ends; it comes again when it is thrown out.
pub async fn drip(to: SocketAddr, pause: Duration) {
    loop {
        let Ok(mut stream) = connect(Ipv4Addr::new(127, 0, 4, 1), to).await else {
            sleep(pause).await;
            continue;
        };
        let head = b"GET https://acme.cybozu.com/k/v1/records.json HTTP/1.1\r\nX-Slow: ";
        let mut bytes = head.iter().chain(std::iter::repeat(&b'x'));
        while let Some(byte) = bytes.next()
            && stream.write_all(&[*byte]).await.is_ok()
        {
            sleep(pause).await;
        }
    }
}

/// What a caller that does not read lets the kernel take for it, in bytes: as little as possible, so
/// that the buffers on the way do not hold all of a file.
const RECEIVED_MAX: u32 = 4096;

/// A caller that asks for a file of so many bytes and reads nothing of it.
pub async fn stall(to: SocketAddr, bytes: u64) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a descriptor");
    socket.set_recv_buffer_size(RECEIVED_MAX).expect("a size");
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 5, 1), 0));
    socket.bind(from).expect("an address of loopback");
    let mut stream = socket.connect(to).await.expect("a place");
    let head = format!(
        "GET https://{ACME}/k/v1/file.json?fileKey=synthetic-{bytes} HTTP/1.1\r\nHost: {ACME}\r\n\
         Proxy-Authorization: {}\r\nX-Cybozu-API-Token: {API_TOKEN}\r\n\r\n",
        basic("events")
    );
    stream
        .write_all(head.as_bytes())
        .await
        .expect("a live socket");
    stream
}

/// So many callers each of whom has sent a head that lacks only its end.
pub async fn long_heads(count: usize, to: SocketAddr) -> Vec<TcpStream> {
    // `head_size` is 64 KiB.
    let head = format!("GET / HTTP/1.1\r\nX-Long: {}", "x".repeat(63 << 10));
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = connect(Ipv4Addr::new(127, 0, 5, 2), to)
            .await
            .expect("a place");
        stream
            .write_all(head.as_bytes())
            .await
            .expect("a live socket");
        open.push(stream);
    }
    open
}

/// Asks in each tunnel for a file of so many bytes, and reads nothing of it.
pub async fn stall_tunnels(tunnels: &mut [TlsStream<TcpStream>], bytes: u64) {
    let head = format!(
        "GET /k/v1/file.json?fileKey=synthetic-{bytes} HTTP/1.1\r\nHost: {ACME}\r\n\
         X-Cybozu-API-Token: {API_TOKEN}\r\n\r\n"
    );
    for tunnel in tunnels {
        tunnel
            .write_all(head.as_bytes())
            .await
            .expect("a live tunnel");
        tunnel.flush().await.expect("a live tunnel");
    }
}
