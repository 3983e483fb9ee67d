//! Bodies of random sizes, cut at random, both ways: what arrives is what was sent.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::echo::{Echo, SEED};
use crate::pieces::{Cut, Pieces};
use crate::support::caller::Caller;
use crate::support::inspect::PrivateCa;
use crate::support::{House, Plan, house};

const HOST: &str = "bodies.cybozu.cn";

/// Bodies that go by each of three ways, and come back.
const BODIES: u64 = 3400;
/// How many connections carry them.
const LINES: u64 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    InspectH1,
    InspectH2,
}

/// A connection that carries one body after another.
enum Line {
    H1(http1::SendRequest<Cut>),
    H2(http2::SendRequest<Cut>),
}

impl Line {
    async fn open(caller: &Caller, way: Way) -> Self {
        let protocol: &[u8] = if way == Way::InspectH2 {
            b"h2"
        } else {
            b"http/1.1"
        };
        match way {
            Way::Forward => {
                let stream = TcpStream::connect(caller.proxy())
                    .await
                    .expect("it listens");
                Self::h1(stream).await
            }
            Way::InspectH1 => {
                let caller = caller.clone().offering(&[protocol]);
                Self::h1(caller.secured(HOST).await.expect("let in")).await
            }
            Way::InspectH2 => {
                let caller = caller.clone().offering(&[protocol]);
                let tls = caller.secured(HOST).await.expect("let in");
                let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
                let (sender, connection) = shaken.expect("HTTP/2");
                tokio::spawn(async move { connection.await.ok() });
                Self::H2(sender)
            }
        }
    }

    async fn h1<T>(stream: T) -> Self
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.expect("HTTP/1");
        tokio::spawn(async move { connection.await.ok() });
        Self::H1(sender)
    }

    async fn send(&mut self, request: Request<Cut>) -> Response<Incoming> {
        match self {
            Self::H1(sender) => {
                sender.ready().await.expect("it is kept");
                sender.send_request(request).await
            }
            Self::H2(sender) => sender.send_request(request).await,
        }
        .expect("an answer")
    }
}

/// Sends one body and takes it back.
async fn carry(line: &mut Line, caller: &Caller, way: Way, seed: u64) {
    let mut pieces = Pieces::new(seed);
    let body = Bytes::from(pieces.body());
    let path = "/k/v1/file.json";
    let target = match way {
        Way::Forward | Way::InspectH2 => format!("https://{HOST}{path}"),
        Way::InspectH1 => path.to_owned(),
    };
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(header::HOST, HOST)
        .header(SEED, seed.wrapping_mul(31));
    if way == Way::Forward {
        let authorization = caller.authorization().expect("it says who it is");
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    if pieces.tells_length() {
        request = request.header(header::CONTENT_LENGTH, body.len());
    }
    let request = request.body(pieces.cut(&body)).expect("a valid request");
    let response = line.send(request).await;
    assert_eq!(response.status(), 200, "seed {seed}");
    let told = response.headers().get(header::CONTENT_LENGTH).cloned();
    let came = response.into_body().collect().await;
    let came = came
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"))
        .to_bytes();
    assert_eq!(
        Sha256::digest(&came),
        Sha256::digest(&body),
        "seed {seed}: {} of {} bytes",
        came.len(),
        body.len()
    );
    if let Some(told) = told {
        assert_eq!(told.to_str().unwrap(), body.len().to_string());
    }
}

async fn carry_all(way: Way) {
    let (echo, ca) = (Echo::start().await, PrivateCa::new());
    let mut plan = Plan {
        ca: echo.ca_pem.clone(),
        resolve: format!("\"*.cybozu.cn\" = \"{}\"", echo.address),
        ..ca.plan(Plan::default())
    };
    // An echo is no kintone, and its answers tell nothing of the address.
    plan.tables += "[acceptance]\nprobe = false\n";
    house(plan, async |house| {
        let caller = Arc::new(house.caller().trusting(&ca.pem));
        let mut lines = JoinSet::new();
        for number in 0..LINES {
            let caller = Arc::clone(&caller);
            lines.spawn(async move {
                let mut line = Line::open(&caller, way).await;
                let seeds = (number..BODIES).step_by(LINES as usize);
                for seed in seeds {
                    carry(&mut line, &caller, way, seed).await;
                }
            });
        }
        lines.join_all().await;
        let logged = |house: &House| house.output.text().lines().count() as u64 == BODIES;
        house.until("each is logged", logged).await;
        assert_eq!(house.quotas.balance().acquired, BODIES);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_forward() {
    carry_all(Way::Forward).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_inspect_in_http_1() {
    carry_all(Way::InspectH1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_inspect_in_http_2() {
    carry_all(Way::InspectH2).await;
}
