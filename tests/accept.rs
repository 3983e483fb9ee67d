//! The server outlives a host without file descriptors. It has a process of its own, because the
//! limit is the process's.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use kintone_egress::config::Limits;
use kintone_egress::drain::Drain;
use kintone_egress::model::Detail;
use kintone_egress::server::{Hooks, Server};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

async fn ok(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("ok")))
}

async fn call(stream: &mut TcpStream) -> String {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn accepting_goes_on_when_descriptors_come_back() {
    let hits = Arc::new(Mutex::new(Vec::new()));
    let hooks = Hooks {
        bare_answer: Arc::new(|_, _| Bytes::new()),
        limit_hit: {
            let hits = Arc::clone(&hits);
            Arc::new(move |detail| hits.lock().unwrap().push(detail))
        },
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at: SocketAddr = listener.local_addr().unwrap();
    let limits = Arc::new(ArcSwap::from_pointee(Limits::default()));
    let server = Server::new(limits, Drain::new(), hooks);
    let serving = tokio::spawn(async move { server.serve(listener, tower::service_fn(ok)).await });
    let mut before = TcpStream::connect(at).await.unwrap();
    assert!(call(&mut before).await.ends_with("ok"));

    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 256.min(hard), hard).unwrap();
    // The caller's socket exists before the last descriptor goes, so that accept is what fails.
    let socket = TcpSocket::new_v4().unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    let mut caller = socket.connect(at).await.unwrap();
    let starved = async {
        while !hits.lock().unwrap().contains(&Detail::FileDescriptors) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), starved)
        .await
        .unwrap();
    assert!(!serving.is_finished());
    hoard.clear();
    assert!(call(&mut caller).await.ends_with("ok"));
}
