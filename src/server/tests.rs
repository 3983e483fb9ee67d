//! The server over real sockets. Time is paused: limits are reached at once and to the millisecond.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::config::Limits;
use crate::drain::{Drain, Stage};
use crate::model::Detail;

use super::{Connection, Hooks, Server, upgraded};

/// A server on a port of its own, whose service does what the path says.
struct Bench {
    at: SocketAddr,
    server: Server,
    drain: Drain,
    limits: Arc<ArcSwap<Limits>>,
    hits: Arc<Mutex<Vec<Detail>>>,
    bare: Arc<Mutex<Vec<u16>>>,
    /// What the service says about the calls it got.
    said: mpsc::UnboundedReceiver<&'static str>,
    /// Lets `/hold` answer.
    go: Arc<Notify>,
}

async fn bench(limits: Limits) -> Bench {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let limits = Arc::new(ArcSwap::from_pointee(limits));
    let drain = Drain::new();
    let hits = Arc::new(Mutex::new(Vec::new()));
    let bare = Arc::new(Mutex::new(Vec::new()));
    let hooks = Hooks {
        bare_answer: {
            let bare = Arc::clone(&bare);
            Arc::new(move |status, _| {
                bare.lock().unwrap().push(status);
                Bytes::from(format!(
                    "HTTP/1.1 {status} GW_BAD_REQUEST\r\nConnection: close\r\nContent-Length: 4\r\n\r\nours"
                ))
            })
        },
        limit_hit: {
            let hits = Arc::clone(&hits);
            Arc::new(move |detail| hits.lock().unwrap().push(detail))
        },
    };
    let server = Server::new(Arc::clone(&limits), drain.clone(), hooks);
    let (say, said) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let service = {
        let go = Arc::clone(&go);
        tower::service_fn(move |request| answer(request, say.clone(), Arc::clone(&go)))
    };
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener, service).await });
    Bench {
        at,
        server,
        drain,
        limits,
        hits,
        bare,
        said,
        go,
    }
}

type Say = mpsc::UnboundedSender<&'static str>;

async fn answer(
    mut request: Request<Incoming>,
    say: Say,
    go: Arc<Notify>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let connection = request
        .extensions()
        .get::<Arc<Connection>>()
        .cloned()
        .unwrap();
    if request.uri().host() == Some("refused") {
        let refusal = Response::builder().status(StatusCode::FORBIDDEN);
        return Ok(refusal.body(Full::from("no")).unwrap());
    }
    if request.method() == Method::CONNECT {
        let on = hyper::upgrade::on(&mut request);
        drop(connection);
        tokio::spawn(tunnel(on, say));
        return Ok(Response::new(Full::default()));
    }
    let body = match request.uri().path() {
        "/gone" => {
            assert!(!connection.is_caller_gone());
            let _ = say.send("waiting");
            connection.caller_gone().await;
            assert!(connection.is_caller_gone());
            let _ = say.send("gone");
            Bytes::from_static(b"farewell")
        }
        "/hold" => {
            let _ = say.send("holding");
            go.notified().await;
            Bytes::from_static(b"held")
        }
        "/panic" => panic!("as asked"),
        "/broken" => return Err(std::io::Error::other("broken")),
        "/large" => Bytes::from(vec![b'x'; 32 << 20]),
        "/length" => {
            let body = request.body_mut().collect().await.unwrap().to_bytes();
            Bytes::from(body.len().to_string())
        }
        path => Bytes::from(path.to_owned()),
    };
    let mut answer = Response::new(Full::new(body));
    if request.uri().path() == "/refuse" {
        *answer.status_mut() = StatusCode::FORBIDDEN;
        let close = http::HeaderValue::from_static("close");
        answer.headers_mut().insert(http::header::CONNECTION, close);
    }
    Ok(answer)
}

/// Echoes, and says when the caller has closed its side.
async fn tunnel(on: hyper::upgrade::OnUpgrade, say: Say) {
    let upgraded = upgraded(on).await.unwrap();
    let stream = &upgraded.stream;
    let mut pending = upgraded.read.to_vec();
    loop {
        while !pending.is_empty() {
            stream.writable().await.unwrap();
            if let Ok(written) = stream.try_write(&pending) {
                pending.drain(..written);
            }
        }
        stream.readable().await.unwrap();
        let mut buffer = [0; 1024];
        match stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => pending.extend_from_slice(&buffer[..read]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    let _ = say.send("tunnel closed");
}

impl Bench {
    async fn connect(&self) -> Caller {
        let stream = TcpStream::connect(self.at).await.unwrap();
        // A piece that waits for an acknowledgement would wait in real time, which stands still.
        stream.set_nodelay(true).unwrap();
        Caller(stream)
    }

    async fn connect_from(&self, from: [u8; 4]) -> Caller {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::from(from), 0).into()).unwrap();
        Caller(socket.connect(self.at).await.unwrap())
    }

    fn hits(&self) -> Vec<Detail> {
        self.hits.lock().unwrap().clone()
    }

    fn bare(&self) -> Vec<u16> {
        self.bare.lock().unwrap().clone()
    }

    /// Waits until no connection is left.
    async fn quiet(&self) {
        self.drain.idle().await;
        assert_eq!(self.server.connections(), 0);
    }
}

struct Caller(TcpStream);

impl Caller {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// One answer with a `Content-Length`.
    async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| {
                        line.to_lowercase()
                            .strip_prefix("content-length: ")?
                            .parse()
                            .ok()
                    })
                    .unwrap_or(0_usize);
                if body.len() >= length {
                    return text;
                }
            }
            let read = self.0.read_buf(&mut answer).await.unwrap();
            assert_ne!(read, 0, "closed after {text:?}");
        }
    }

    /// Everything up to an orderly close.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.unwrap();
        String::from_utf8(rest).unwrap()
    }

    async fn get(&mut self, path: &str) -> String {
        self.send(get(path)).await;
        self.answer().await
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn answers_of_hypers_own_making_are_ours() {
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(70_000));
    let long_head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "a".repeat(70_000)
    );
    let many_fields = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(150)
    );
    let rows: [(&str, u16); 10] = [
        ("GET /?query=title=\"a\" HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            400,
        ),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{7c}\x03\x03", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (&long_target, 414),
        (&long_head, 431),
        (&many_fields, 431),
    ];
    for (request, status) in rows {
        let bench = bench(Limits::default()).await;
        let mut caller = bench.connect().await;
        caller.send(request).await;
        let rest = caller.rest().await;
        let name = &request[..request.len().min(60)];
        assert!(
            rest.starts_with(&format!("HTTP/1.1 {status} GW_BAD_REQUEST\r\n")),
            "{name}: {rest}"
        );
        assert!(rest.ends_with("\r\n\r\nours"), "{name}: {rest}");
        assert_eq!(bench.bare(), [status], "{name}");
        drop(caller);
        bench.quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_bare_answer_behind_a_good_one_is_ours_too_and_the_good_one_is_whole() {
    let bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller
        .send(get("/one") + &get("/two") + "GET /?\"\" HTTP/1.1\r\n\r\n")
        .await;
    let rest = caller.rest().await;
    let places: Vec<_> = ["/one", "/two", "400 GW_BAD_REQUEST", "ours"]
        .iter()
        .map(|part| {
            rest.find(part)
                .unwrap_or_else(|| panic!("{part} in {rest}"))
        })
        .collect();
    assert!(places.is_sorted(), "{rest}");
    assert_eq!(bench.bare(), [400]);
}

#[tokio::test(start_paused = true)]
async fn a_bare_answer_arrives_although_the_caller_goes_on_sending() {
    let bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller.send("GET /?\"\" HTTP/1.1\r\n\r\n").await;
    // Far more than hyper reads: a plain close would be a reset, which can eat the answer.
    caller.send(vec![b'x'; 200 << 10]).await;
    assert!(caller.rest().await.ends_with("ours"));
    caller.send(b"more").await;
    drop(caller);
    bench.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn lingering_ends_after_two_seconds() {
    let bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller.send("GET /refuse HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let rest = caller.rest().await;
    assert!(
        rest.starts_with("HTTP/1.1 403 ") && rest.ends_with("/refuse"),
        "{rest}"
    );
    let closed = Instant::now();
    bench.quiet().await;
    assert!(
        (1900..=2100).contains(&closed.elapsed().as_millis()),
        "{:?}",
        closed.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_connect_arrives_although_its_sender_goes_on_sending() {
    let bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    let connect = "CONNECT refused:443 HTTP/1.1\r\nHost: refused:443\r\n\r\n";
    caller.send(connect).await;
    // A client that does not wait for the answer: its ClientHello, and more than hyper reads.
    caller.send(vec![0x16; 200 << 10]).await;
    let rest = caller.rest().await;
    assert!(rest.starts_with("HTTP/1.1 403 "), "{rest}");
    let closed = Instant::now();
    caller.send(b"more").await;
    bench.quiet().await;
    assert!(
        (1900..=2100).contains(&closed.elapsed().as_millis()),
        "{:?}",
        closed.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn connections_are_kept_between_calls_and_closed_when_idle() {
    let bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    for round in 0..3 {
        assert!(caller.get("/a").await.ends_with("/a"));
        tokio::time::sleep(seconds(100)).await;
        assert_eq!(bench.server.connections(), 1, "round {round}");
    }
    let idle = Instant::now();
    assert_eq!(caller.rest().await, "");
    let waited = idle.elapsed();
    assert!(
        (19_900..=20_100).contains(&waited.as_millis()),
        "{waited:?}"
    );
    assert_eq!(bench.hits(), [Detail::CallerIdle]);
}

#[tokio::test(start_paused = true)]
async fn a_head_must_be_complete_in_time_however_it_trickles() {
    let bench = bench(Limits::default()).await;
    let mut silent = bench.connect().await;
    let begun = Instant::now();
    assert_eq!(silent.rest().await, "");
    assert_eq!(begun.elapsed().as_secs(), 10);

    let mut slow = bench.connect().await;
    assert!(slow.get("/a").await.ends_with("/a"));
    tokio::time::sleep(seconds(50)).await;
    let begun = Instant::now();
    let (mut read, mut write) = slow.0.split();
    let trickle = async {
        for byte in get("/slow").bytes().cycle() {
            let _ = write.write_all(&[byte]).await;
            tokio::time::sleep(seconds(1)).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = trickle => {}
        _ = read.read_to_end(&mut rest) => {}
    }
    assert!(rest.is_empty());
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(bench.hits(), [Detail::HeadTimeout, Detail::HeadTimeout]);
}

#[tokio::test(start_paused = true)]
async fn a_call_may_take_longer_than_every_limit_of_heads_and_idleness() {
    let mut bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller.send(get("/hold")).await;
    assert_eq!(bench.said.recv().await, Some("holding"));
    tokio::time::sleep(seconds(590)).await;
    bench.go.notify_one();
    assert!(caller.answer().await.ends_with("held"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_read_is_cut_with_a_reset() {
    let bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller.send(get("/large")).await;
    caller.0.readable().await.unwrap();
    let begun = Instant::now();
    bench.quiet().await;
    let waited = begun.elapsed().as_secs();
    assert!((60..=61).contains(&waited), "{waited}");
    assert_eq!(bench.hits(), [Detail::CallerStalled]);
    let error = caller.0.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_service_breaks_off_is_a_reset() {
    let bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller.send(get("/broken")).await;
    let error = caller.0.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    bench.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_service_is_a_reset_and_frees_the_place() {
    let bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller.send(get("/panic")).await;
    let error = caller.0.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    bench.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_parsed_is_answered_once_although_its_caller_has_closed() {
    for request in [
        "GET /?\"\" HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let bench = bench(Limits::default()).await;
        let mut caller = bench.connect().await;
        caller.send(request).await;
        caller.0.shutdown().await.unwrap();
        assert!(caller.rest().await.ends_with("ours"));
        bench.quiet().await;
        assert_eq!(bench.bare(), [400], "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_breaks_off_is_no_call_and_gets_no_answer() {
    let bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller.send("GET /a HTTP/1.1\r\nHo").await;
    caller.0.shutdown().await.unwrap();
    assert_eq!(caller.rest().await, "");
    bench.quiet().await;
    assert!(bench.bare().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_whatever_the_pieces() {
    let bench = bench(Limits::default()).await;
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let stream = bench.connect().await;
        callers.spawn(send_in_pieces(stream, caller));
    }
    timeout(seconds(60), callers.join_all())
        .await
        .expect("a call hangs");
}

async fn send_in_pieces(mut stream: Caller, caller: usize) {
    for call in 0..60 {
        // Around the sizes of the buffers: a read that just fills one, or just does not.
        let length = [1, 4095, 8191, 8192, 8193, 16_384, 65_536, 70_001][call % 8] + caller;
        let head = format!("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let message = [head.into_bytes(), vec![b'x'; length]].concat();
        for piece in message.chunks(1000 + 997 * caller + call) {
            stream.send(piece).await;
        }
        let answer = stream.answer().await;
        assert!(answer.ends_with(&format!("\r\n\r\n{length}")), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_half_closes_is_noticed_and_still_answered() {
    let mut bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller.send(get("/gone")).await;
    assert_eq!(bench.said.recv().await, Some("waiting"));
    caller.0.shutdown().await.unwrap();
    assert_eq!(bench.said.recv().await, Some("gone"));
    assert!(caller.rest().await.ends_with("farewell"));
    bench.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn pipelined_bytes_are_not_a_departure_but_their_end_is() {
    let mut bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    // More than hyper reads along with the first call: most of it stays in the socket.
    let body = "x".repeat(100 << 10);
    caller.send(get("/gone")).await;
    assert_eq!(bench.said.recv().await, Some("waiting"));
    caller
        .send(format!(
            "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert!(timeout(seconds(5), bench.said.recv()).await.is_err());
    caller.0.shutdown().await.unwrap();
    assert_eq!(bench.said.recv().await, Some("gone"));
    let rest = caller.rest().await;
    assert!(
        rest.contains("farewell") && rest.ends_with("102400"),
        "{rest}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_resets_is_noticed() {
    let mut bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller.send(get("/gone")).await;
    assert_eq!(bench.said.recv().await, Some("waiting"));
    caller.0.set_zero_linger().unwrap();
    drop(caller);
    assert_eq!(bench.said.recv().await, Some("gone"));
    bench.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn pipelined_calls_are_answered_in_order() {
    let bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller
        .send((0..50).map(|n| get(&format!("/{n}."))).collect::<String>())
        .await;
    caller.0.shutdown().await.unwrap();
    let rest = caller.rest().await;
    let places: Vec<_> = (0..50)
        .map(|n| rest.find(&format!("\r\n\r\n/{n}.")).unwrap())
        .collect();
    assert!(places.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_hands_over_early_bytes_and_keeps_its_place() {
    let mut bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller
        .send("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\nearly")
        .await;
    let mut answer = String::new();
    while !answer.ends_with("early") {
        let mut buffer = [0; 256];
        let read = caller.0.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "{answer}");
        answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // Longer than any limit of HTTP: the tunnel's own are its handler's.
    tokio::time::sleep(seconds(1000)).await;
    assert_eq!(bench.server.connections(), 1);
    caller.send("late").await;
    let mut late = [0; 4];
    caller.0.read_exact(&mut late).await.unwrap();
    assert_eq!(&late, b"late");
    caller.0.shutdown().await.unwrap();
    assert_eq!(bench.said.recv().await, Some("tunnel closed"));
    assert_eq!(caller.rest().await, "");
    tokio::task::yield_now().await;
    assert_eq!(bench.server.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_behind_a_refused_connect_is_run() {
    let bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller
        .send("CONNECT refused:443 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned() + &get("/behind"))
        .await;
    let rest = caller.rest().await;
    assert!(
        rest.contains("connection: close") && rest.ends_with("no"),
        "{rest}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fin_before_the_200_is_kept() {
    let mut bench = bench(Limits::default()).await;
    let mut caller = bench.connect().await;
    caller.send("CONNECT a:443 HTTP/1.0\r\n\r\nall of it").await;
    caller.0.shutdown().await.unwrap();
    let rest = caller.rest().await;
    assert!(
        rest.starts_with("HTTP/1.0 200 OK\r\n") && rest.ends_with("all of it"),
        "{rest}"
    );
    assert_eq!(bench.said.recv().await, Some("tunnel closed"));
}

#[tokio::test(start_paused = true)]
async fn beyond_the_places_connections_wait_for_one() {
    let bench = bench(Limits {
        connections: 2,
        ..Limits::default()
    })
    .await;
    let mut first = bench.connect().await;
    let mut second = bench.connect().await;
    assert!(first.get("/1").await.ends_with("/1"));
    assert!(second.get("/2").await.ends_with("/2"));
    let mut third = bench.connect().await;
    third.send(get("/3")).await;
    assert!(timeout(seconds(5), third.answer()).await.is_err());
    assert_eq!(bench.hits(), [Detail::Connections]);
    assert_eq!(bench.server.connections(), 2);
    drop(first);
    assert!(third.answer().await.ends_with("/3"));
    assert_eq!(bench.server.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_lets_waiting_connections_in() {
    let bench = bench(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut first = bench.connect().await;
    assert!(first.get("/1").await.ends_with("/1"));
    let mut second = bench.connect().await;
    second.send(get("/2")).await;
    assert!(timeout(seconds(1), second.answer()).await.is_err());
    bench.limits.store(Arc::new(Limits::default()));
    bench.server.limits_changed();
    assert!(second.answer().await.ends_with("/2"));
    let mut third = bench.connect().await;
    assert!(third.get("/3").await.ends_with("/3"));
}

#[tokio::test(start_paused = true)]
async fn one_address_cannot_take_the_places_of_others() {
    let bench = bench(Limits {
        connections_per_network_address: 2,
        ..Limits::default()
    })
    .await;
    let mut held = [bench.connect().await, bench.connect().await];
    for caller in &mut held {
        assert!(caller.get("/a").await.ends_with("/a"));
    }
    let mut refused = bench.connect().await;
    assert!(refused.0.read_to_end(&mut Vec::new()).await.is_err());
    assert_eq!(bench.hits(), [Detail::ConnectionsPerAddress]);
    let mut other = bench.connect_from([127, 0, 0, 2]).await;
    assert!(other.get("/b").await.ends_with("/b"));
    let [first, _second] = held;
    drop(first);
    let mut again = loop {
        let mut again = bench.connect().await;
        again.send(get("/c")).await;
        if again.0.readable().await.is_ok() && again.0.peek(&mut [0]).await.is_ok_and(|n| n > 0) {
            break again;
        }
    };
    assert!(again.answer().await.ends_with("/c"));
}

#[tokio::test(start_paused = true)]
async fn an_announced_drain_still_takes_calls_and_says_close() {
    let bench = bench(Limits::default()).await;
    let mut idle = bench.connect().await;
    assert!(
        !idle
            .get("/a")
            .await
            .to_lowercase()
            .contains("connection: close")
    );
    bench.drain.announce();
    tokio::time::sleep(seconds(5)).await;
    let answer = idle.get("/b").await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("/b"),
        "{answer}"
    );
    assert_eq!(idle.rest().await, "");
    let mut fresh = bench.connect().await;
    assert!(fresh.get("/c").await.contains("connection: close"));
    bench.drain.undrain().unwrap();
    let mut back = bench.connect().await;
    assert!(!back.get("/d").await.contains("connection: close"));
    assert!(back.get("/e").await.ends_with("/e"));
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_idle_connections_at_once_and_busy_ones_after_their_answer() {
    let mut bench = bench(Limits::default()).await;
    let mut idle = bench.connect().await;
    assert!(idle.get("/a").await.ends_with("/a"));
    let mut fresh = bench.connect().await;
    let mut busy = bench.connect().await;
    busy.send(get("/hold")).await;
    assert_eq!(bench.said.recv().await, Some("holding"));
    let mut tunnel = bench.connect().await;
    tunnel
        .send("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert!(tunnel.answer().await.starts_with("HTTP/1.1 200"));

    let stopped = Instant::now();
    bench.drain.stop();
    assert_eq!(idle.rest().await, "");
    assert_eq!(fresh.rest().await, "");
    assert_eq!(stopped.elapsed(), Duration::ZERO);
    assert!(
        TcpStream::connect(bench.at).await.is_err(),
        "nothing new is taken"
    );
    assert_eq!(bench.server.connections(), 2);

    bench.go.notify_one();
    let answer = busy.rest().await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("held"),
        "{answer}"
    );
    drop(busy);
    bench.drain.idle().await;
    assert_eq!(bench.server.connections(), 1, "the tunnel is its handler's");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_bytes_are_on_their_way_at_the_stop_is_answered() {
    let bench = bench(Limits::default()).await;
    let mut half = bench.connect().await;
    assert!(half.get("/a").await.ends_with("/a"));
    let request = get("/b");
    half.send(&request[..10]).await;
    tokio::time::sleep(seconds(1)).await;
    let mut unread = bench.connect().await;
    assert!(unread.get("/a").await.ends_with("/a"));
    // In the socket, not yet seen by the reactor.
    std::io::Write::write_all(
        &mut &*socket2::SockRef::from(&unread.0),
        get("/c").as_bytes(),
    )
    .unwrap();
    bench.drain.stop();
    assert!(unread.rest().await.ends_with("/c"));
    half.send(&request[10..]).await;
    let rest = half.rest().await;
    assert!(rest.ends_with("/b"), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_what_still_runs() {
    let mut bench = bench(Limits::default()).await;
    let mut busy = bench.connect().await;
    busy.send(get("/hold")).await;
    assert_eq!(bench.said.recv().await, Some("holding"));
    bench.drain.stop();
    assert!(timeout(seconds(30), bench.drain.idle()).await.is_err());
    assert_eq!(bench.drain.stage(), Stage::Stopping);
    bench.drain.cut();
    bench.quiet().await;
    assert!(busy.0.read_to_end(&mut Vec::new()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_this_servers_cannot_be_taken_over() {
    let mut request: Request<()> = Request::new(());
    let on = hyper::upgrade::on(&mut request);
    assert!(upgraded(on).await.is_err());
}
