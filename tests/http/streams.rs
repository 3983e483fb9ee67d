//! Calls that come in HTTP/2, inside an inspected connection, and go on in HTTP/1.1: what becomes of
//! their heads, bodies and trailers (RFC 9113 section 8).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::bench::{Bench, text};
use crate::kintone::{Arrived, Reply, Then};
use crate::support::Plan;
use crate::talk::{ACCOUNT, on_head, reply};
use crate::{check_accounts, stand_inside};

/// A body of these frames.
struct Frames(VecDeque<Frame<Bytes>>);

impl Frames {
    fn of(pieces: &[&'static str], trailers: &[(&'static str, &'static str)]) -> Self {
        let pieces = pieces
            .iter()
            .map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
        let mut frames: VecDeque<_> = pieces.collect();
        if !trailers.is_empty() {
            let fields = trailers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            frames.push_back(Frame::trailers(fields.collect::<HeaderMap>()));
        }
        Self(frames)
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

async fn connect(bench: &Bench) -> SendRequest<Frames> {
    let ca = bench.inside.as_ref().expect("it is inspected");
    let caller = bench.house.caller().trusting(&ca.pem).offering(&[b"h2"]);
    let tls = caller.secured(ACCOUNT).await.expect("let in");
    let shaken = handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
    let (sender, connection) = shaken.expect("HTTP/2");
    tokio::spawn(async move { connection.await.ok() });
    sender
}

async fn send(
    bench: &Bench,
    sender: &mut SendRequest<Frames>,
    method: &str,
    fields: &[(&'static str, &'static str)],
    body: Frames,
) -> Response<Incoming> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("https://{ACCOUNT}/x?y=%20"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(body).unwrap()).await;
    bench.calls.fetch_add(1, Ordering::Relaxed);
    response.expect("an answer")
}

/// The fields of a request at kintone, names in lower case.
fn fields(arrived: &Arrived) -> Vec<String> {
    let lines = arrived.lines();
    let fields = lines.iter().filter_map(|line| line.split_once(':'));
    fields
        .map(|(name, value)| format!("{}:{value}", name.to_ascii_lowercase()))
        .collect()
}

#[tokio::test]
async fn a_head_becomes_one_of_http_1() {
    stand_inside(Plan::default(), async |bench| {
        let mut sender = connect(&bench).await;
        let said = [
            ("cookie", "a=1"),
            ("x-cybozu-api-token", "b"),
            ("cookie", "b=2"),
            ("x-cybozu-api-token", "a"),
            ("te", "trailers"),
            ("via", "1.1 other"),
            ("kintone-egress-tenant", "t"),
            ("traceparent", "00-0-0-00"),
            ("cookie", "c=3"),
        ];
        let answer = send(&bench, &mut sender, "GET", &said, Frames::of(&[], &[])).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.version(), http::Version::HTTP_2);
        assert_eq!(answer.headers()["via"], "1.1 kintone-egress");
        for name in ["connection", "transfer-encoding", "keep-alive"] {
            assert!(!answer.headers().contains_key(name), "{name}");
        }
        let arrived = bench.kintone.arrived(ACCOUNT);
        assert_eq!(arrived[0].lines()[0], "GET /x?y=%20 HTTP/1.1");
        let mut fields = fields(&arrived[0]);
        fields.sort();
        assert_eq!(
            fields,
            [
                "cookie: a=1; b=2; c=3".to_owned(),
                format!("host: {ACCOUNT}"),
                "via: 1.1 other".to_owned(),
                "via: 2 kintone-egress".to_owned(),
                "x-cybozu-api-token: a".to_owned(),
                "x-cybozu-api-token: b".to_owned(),
            ]
        );
        check_accounts(&bench).await;
    })
    .await;
}

#[tokio::test]
async fn bodies_with_and_without_a_length_keep_it_so() {
    stand_inside(Plan::default(), async |bench| {
        let mut sender = connect(&bench).await;
        let body = || Frames::of(&["he", "llo"], &[]);
        for method in ["POST", "GET", "DELETE"] {
            send(
                &bench,
                &mut sender,
                method,
                &[("content-length", "5")],
                body(),
            )
            .await;
            send(&bench, &mut sender, method, &[], body()).await;
            send(&bench, &mut sender, method, &[], Frames::of(&[], &[])).await;
        }
        for (turn, arrived) in bench.kintone.arrived(ACCOUNT).iter().enumerate() {
            let fields = fields(arrived);
            let has = |field: &str| fields.iter().any(|one| one == field);
            let (declared, chunked) = (has("content-length: 5"), has("transfer-encoding: chunked"));
            assert_eq!(
                (declared, chunked),
                (turn % 3 == 0, turn % 3 == 1),
                "{fields:#?}"
            );
            let body = if chunked {
                crate::wire::unchunk(arrived.body()).0
            } else {
                arrived.body().to_vec()
            };
            let expected = if turn % 3 == 2 { "" } else { "hello" };
            assert_eq!(text(&body), expected, "{fields:#?}");
        }
        check_accounts(&bench).await;
    })
    .await;
}

/// As in HTTP/1: only announced trailers go on, and only to callers that take them.
#[tokio::test]
async fn announced_trailers_pass_both_ways() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
        Trailer: X-Sum, Kintone-Egress-Cause\r\n\r\n2\r\n{}\r\n\
        0\r\nX-Sum: 1\r\nKintone-Egress-Cause: x\r\n\r\n";
    stand_inside(Plan::default(), async |bench| {
        bench.kintone.script(ACCOUNT, &[reply(ANSWER)]);
        let mut sender = connect(&bench).await;
        let said = [
            ("te", "trailers"),
            ("trailer", "x-digest, proxy-authorization"),
        ];
        let trailers = [
            ("x-digest", "a"),
            ("x-other", "b"),
            ("proxy-authorization", "Basic eDp5"),
        ];
        let answer = send(
            &bench,
            &mut sender,
            "POST",
            &said,
            Frames::of(&["hello"], &trailers),
        )
        .await;
        let answer = answer.into_body().collect().await.unwrap();
        let trailers = answer.trailers().cloned().unwrap_or_default();
        assert_eq!(
            trailers.get("x-sum").map(|value| value.as_bytes()),
            Some(&b"1"[..])
        );
        assert_eq!(trailers.len(), 1, "{trailers:?}");
        let arrived = &bench.kintone.arrived(ACCOUNT)[0];
        assert_eq!(
            text(arrived.body()),
            "5\r\nhello\r\n0\r\nx-digest: a\r\n\r\n"
        );
        check_accounts(&bench).await;
    })
    .await;
}

/// A shorter answer never looks whole, and neighbours do not notice.
#[tokio::test]
async fn an_answer_that_breaks_off_is_a_reset_of_its_stream() {
    const CUT: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ];
    stand_inside(Plan::default(), async |bench| {
        let mut sender = connect(&bench).await;
        for (turn, bytes) in CUT.iter().enumerate() {
            let cut = Reply {
                on_head: b"",
                bytes,
                then: Then::Cut,
            };
            let mut script = vec![reply(crate::kintone::OK); 2 * turn];
            script.push(cut);
            bench.kintone.script(ACCOUNT, &script);
            let answer = send(&bench, &mut sender, "POST", &[], Frames::of(&["x"], &[])).await;
            assert_eq!(answer.status(), 200);
            let broken = answer.into_body().collect().await;
            assert!(broken.is_err(), "{turn}: {broken:?}");
            let answer = send(&bench, &mut sender, "POST", &[], Frames::of(&["x"], &[])).await;
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "{}");
        }
        check_accounts(&bench).await;
    })
    .await;
}

/// hyper's server has no way to send them in HTTP/2; the answer itself comes all the same.
#[tokio::test]
async fn early_hints_end_here() {
    const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    stand_inside(Plan::default(), async |bench| {
        bench
            .kintone
            .script(ACCOUNT, &[on_head(HINTS, crate::kintone::OK)]);
        let mut sender = connect(&bench).await;
        let answer = send(&bench, &mut sender, "GET", &[], Frames::of(&[], &[])).await;
        assert_eq!(answer.status(), 200);
        check_accounts(&bench).await;
    })
    .await;
}

/// Refusals are the same as in HTTP/1, and a refused body is not read on.
#[tokio::test]
async fn a_refusal_ends_its_stream_alone() {
    stand_inside(Plan::default(), async |bench| {
        let mut sender = connect(&bench).await;
        let large: &'static str = Box::leak("x".repeat(1 << 20).into_boxed_str());
        let said = [("kintone-egress-priority", "urgent")];
        for body in ["", "hello", large] {
            let refused = send(&bench, &mut sender, "POST", &said, Frames::of(&[body], &[])).await;
            assert_eq!(refused.status(), 400);
            assert!(!refused.headers().contains_key("connection"));
            let body = refused.into_body().collect().await.unwrap().to_bytes();
            assert!(text(&body).contains("GW_BAD_REQUEST"), "{}", text(&body));
        }
        let answer = send(&bench, &mut sender, "GET", &[], Frames::of(&[], &[])).await;
        assert_eq!(answer.status(), 200, "the connection lives on");
        check_accounts(&bench).await;
    })
    .await;
}
