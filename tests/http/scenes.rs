//! Rules that take more than one message to show.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

use crate::kintone::{OK, Reply, Then};
use crate::row::{Bench, text};
use crate::support::Plan;
use crate::wire::{End, Got, Wire};
use crate::{bench, check_accounts};

const ACCOUNT: &str = "scene.cybozu.cn";

/// A connection over which that was sent.
async fn say(bench: &Bench, send: &[u8]) -> Wire {
    let mut wire = Wire::connect(bench.house.proxy).await;
    wire.send(&Bench::fill(ACCOUNT, send)).await;
    wire
}

/// The answer to a call that was counted.
async fn hear(bench: &Bench, wire: &mut Wire, method: &str) -> Got {
    let got = wire.answer(method).await;
    bench.calls.fetch_add(1, Ordering::Relaxed);
    match got {
        Ok(got) => got,
        Err(cut) => panic!("no answer, {:?}: {}", cut.by, text(&cut.came)),
    }
}

const fn reply(bytes: &'static [u8]) -> Reply {
    Reply {
        on_head: b"",
        bytes,
        then: Then::Keep,
    }
}

const fn on_head(on_head: &'static [u8], bytes: &'static [u8]) -> Reply {
    Reply {
        on_head,
        bytes,
        then: Then::Keep,
    }
}

/// RFC 9110 section 15.2: a proxy forwards 1xx answers, except to HTTP/1.0.
#[tokio::test]
async fn early_hints_pass_to_callers_that_can_hear_them() {
    const HINTS: &[u8] =
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\
        Connection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 9\r\nKintone-Egress-Cause: x\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    const GET: &[u8] = b"GET https://{a}/x HTTP/1.1\r\n{std}\r\n";
    bench(Plan::default(), async |bench| {
        bench.kintone.script(ACCOUNT, &[reply(HINTS); 5]);
        // Both calls at once: the hints of the second stand between the two answers.
        let mut wire = say(&bench, &[GET, GET].concat()).await;
        for _ in 0..2 {
            let got = hear(&bench, &mut wire, "GET").await;
            assert_eq!(
                got.interim,
                [
                    "HTTP/1.1 102 Processing\r\nvia: 1.1 kintone-egress",
                    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nvia: 1.1 kintone-egress",
                ]
            );
            assert_eq!((got.status, &*got.body), (200, &b"{}"[..]));
        }
        let old = GET.to_vec();
        let old = String::from_utf8(old)
            .unwrap()
            .replace("HTTP/1.1", "HTTP/1.0");
        let mut wire = say(&bench, old.as_bytes()).await;
        let got = hear(&bench, &mut wire, "GET").await;
        assert_eq!((got.interim.len(), got.status), (0, 200));
        check_accounts(&bench).await;
    })
    .await;
}

/// A hint arrives before the answer does, and a hundred of them do no harm.
#[tokio::test]
async fn hints_do_not_wait_for_the_answer() {
    const FIRST: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    bench(Plan::default(), async |bench| {
        let many: &'static [u8] = Vec::leak([&FIRST.repeat(100), OK].concat());
        bench
            .kintone
            .script(ACCOUNT, &[on_head(FIRST, OK), reply(many)]);
        let head = b"POST https://{a}/x HTTP/1.1\r\n{std}Content-Length: 2\r\n\r\n{";
        let mut wire = say(&bench, head).await;
        let hint = wire.head().await.unwrap();
        assert!(hint.starts_with("HTTP/1.1 103 Early Hints"), "{hint}");
        wire.send(b"}").await;
        assert_eq!(hear(&bench, &mut wire, "POST").await.status, 200);
        wire.send(&Bench::fill(
            ACCOUNT,
            b"GET https://{a}/x HTTP/1.1\r\n{std}\r\n",
        ))
        .await;
        let got = hear(&bench, &mut wire, "GET").await;
        assert_eq!((got.interim.len(), got.status), (100, 200));
    })
    .await;
}

const EXPECTS: &[u8] =
    b"POST https://{a}/x HTTP/1.1\r\n{std}Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n";

/// RFC 9110 section 10.1.1; contract, section 5.
#[tokio::test]
async fn a_body_waits_for_kintones_word_and_not_for_ever() {
    bench(Plan::default(), async |bench| {
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        bench.kintone.script(ACCOUNT, &[on_head(go_on, OK)]);
        for wait in [0, 1000] {
            let began = Instant::now();
            let mut wire = say(&bench, EXPECTS).await;
            let interim = wire.head().await.unwrap();
            assert_eq!(interim, "HTTP/1.1 100 Continue");
            let waited = began.elapsed().as_millis();
            assert!(waited >= wait, "{waited} ms");
            assert!(
                wait > 0 || waited < 1000,
                "kintone has said it: {waited} ms"
            );
            wire.send(b"hello").await;
            let got = hear(&bench, &mut wire, "POST").await;
            assert_eq!((got.status, got.interim.len()), (200, 0), "exactly one 100");
        }
        let arrived = bench.kintone.arrived(ACCOUNT);
        for arrived in arrived {
            assert_eq!(arrived.body(), b"hello");
            assert!(arrived.lines().contains(&"Expect: 100-Continue".to_owned()));
        }
        check_accounts(&bench).await;
    })
    .await;
}

/// Nobody is told to go on who was refused, here or at kintone; the body is never sent.
#[tokio::test]
async fn a_refused_expectation_is_told_at_once_and_closes() {
    bench(Plan::default(), async |bench| {
        let no = b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}";
        bench.kintone.script(ACCOUNT, &[on_head(no, b"")]);
        let outside = EXPECTS.to_vec();
        let outside = String::from_utf8(outside)
            .unwrap()
            .replace("{a}", "www.example.com");
        let nobody = String::from_utf8_lossy(EXPECTS).replace("{std}", "Host: {a}\r\n");
        for (send, status) in [
            (EXPECTS, 401),
            (outside.as_bytes(), 403),
            (nobody.as_bytes(), 407),
        ] {
            let mut wire = say(&bench, send).await;
            let got = hear(&bench, &mut wire, "POST").await;
            assert_eq!((got.status, got.interim.len()), (status, 0), "{}", got.head);
            assert_eq!(got.field("connection"), "close", "{}", got.head);
            assert_eq!(wire.rest().await.by, End::Close);
        }
        bench
            .house
            .until("kintone sees the end", |_| {
                !bench.kintone.arrived(ACCOUNT).is_empty()
            })
            .await;
        let arrived = bench.kintone.arrived(ACCOUNT);
        assert_eq!(
            (arrived.len(), arrived[0].whole, arrived[0].body()),
            (1, false, &b""[..])
        );
        check_accounts(&bench).await;
    })
    .await;
}

/// RFC 9110 section 6.5: only announced trailers go on, and only to callers that take them.
#[tokio::test]
async fn announced_trailers_pass_both_ways() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
        Trailer: X-Sum, Kintone-Egress-Cause\r\n\r\n2\r\n{}\r\n\
        0\r\nX-Sum: 1\r\nX-Other: 2\r\nKintone-Egress-Cause: x\r\n\r\n";
    let failed: &'static [u8] = Vec::leak(
        text(ANSWER)
            .replace("200 OK", "400 Bad Request")
            .into_bytes(),
    );
    bench(Plan::default(), async |bench| {
        bench.kintone.script(ACCOUNT, &[reply(ANSWER), reply(failed)]);
        for status in [200, 400] {
            let mut wire = say(
                &bench,
                b"POST https://{a}/x HTTP/1.1\r\n{std}TE: gzip, Trailers\r\nConnection: TE\r\n\
                  Transfer-Encoding: chunked\r\n\
                  Trailer: X-Digest, Proxy-Authorization, Kintone-Egress-Tenant, Host\r\n\r\n\
                  5\r\nhello\r\n0\r\nX-Digest: a\r\nX-Other: b\r\nProxy-Authorization: Basic eDp5\r\n\
                  Kintone-Egress-Tenant: t\r\nHost: evil\r\n\r\n",
            )
            .await;
            let got = hear(&bench, &mut wire, "POST").await;
            assert_eq!((got.status, text(&got.body)), (status, "{}".to_owned()));
            assert_eq!(got.trailers, ["x-sum: 1"], "{}", got.head);
        }
        for arrived in bench.kintone.arrived(ACCOUNT) {
            assert_eq!(text(arrived.body()), "5\r\nhello\r\n0\r\nx-digest: a\r\n\r\n");
        }
        check_accounts(&bench).await;
    })
    .await;
}

/// RFC 9112 section 9.3.2, and no fault hides behind a good call.
#[tokio::test]
async fn pipelined_calls_are_answered_in_order_up_to_the_first_fault() {
    const CALLS: &[&[u8]] = &[
        b"GET https://{a}/1 HTTP/1.1\r\n{std}\r\n",
        b"POST https://{a}/2 HTTP/1.1\r\n{std}Content-Length: 30\r\n\r\nGET /within HTTP/1.1\r\nX: 1\r\n\r\n",
        b"POST https://{a}/3 HTTP/1.1\r\n{std}Transfer-Encoding: chunked\r\n\r\n8;a=b\r\n0\r\n\r\nGET\r\n0\r\n\r\n",
        b"\r\nGET https://www.example.com/ HTTP/1.1\r\n{std}\r\n",
        b"HEAD https://{a}/4 HTTP/1.1\r\n{std}\r\n",
    ];
    const FAULTS: &[(&[u8], &str)] = &[
        (
            b"POST https://{a}/5 HTTP/1.1\r\n{std}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
            "framing_ambiguous",
        ),
        (b"GET https://{a}/5#x HTTP/1.1\r\n{std}\r\n", "fragment"),
        (b"GET https://{a}/5 HTTP/1.1\r\n{std}X : 1\r\n\r\n", "unparsable"),
    ];
    bench(Plan::default(), async |bench| {
        for (fault, detail) in FAULTS {
            let mut send = CALLS.concat();
            send.extend_from_slice(fault);
            send.extend_from_slice(b"GET https://{a}/behind HTTP/1.1\r\n{std}\r\n");
            let mut wire = say(&bench, &send).await;
            for (method, status) in [
                ("GET", 200),
                ("POST", 200),
                ("POST", 200),
                ("GET", 403),
                ("HEAD", 200),
            ] {
                assert_eq!(hear(&bench, &mut wire, method).await.status, status);
            }
            let got = hear(&bench, &mut wire, "POST").await;
            bench
                .check_refused(&got, 400, "GW_BAD_REQUEST", detail, "POST")
                .await;
            bench.check_closed(&mut wire, ACCOUNT).await;
        }
        let arrived = bench.kintone.arrived(ACCOUNT);
        let paths = arrived.iter().map(|arrived| arrived.lines()[0].clone());
        let expected = [
            "GET /1 HTTP/1.1",
            "POST /2 HTTP/1.1",
            "POST /3 HTTP/1.1",
            "HEAD /4 HTTP/1.1",
        ];
        assert!(paths.eq(expected.repeat(FAULTS.len())));
        check_accounts(&bench).await;
    })
    .await;
}

/// RFC 9112 section 3 asks for 8000 octets of a request line; beyond `head_size` it ends.
#[tokio::test]
async fn long_heads_are_taken_up_to_the_limit_and_told_which_part_was_too_long() {
    bench(Plan::default(), async |bench| {
        let get = |path: &str, fields: &str| {
            format!("GET https://{{a}}/{path} HTTP/1.1\r\n{{std}}{fields}\r\n")
        };
        let long = "x".repeat(8000);
        let mut wire = say(&bench, get(&long, "").as_bytes()).await;
        assert_eq!(hear(&bench, &mut wire, "GET").await.status, 200);
        let arrived = bench.kintone.arrived(ACCOUNT);
        assert_eq!(arrived[0].lines()[0], format!("GET /{long} HTTP/1.1"));
        let field = format!("X-Long: {}\r\n", "x".repeat(70 << 10));
        for (send, status, detail) in [
            (get(&"x".repeat(70 << 10), ""), 414, "target_too_long"),
            (get("", &field), 431, "head_too_large"),
            (get("", &"X-Many: 1\r\n".repeat(120)), 431, "head_too_large"),
        ] {
            let mut wire = say(&bench, send.as_bytes()).await;
            let got = hear(&bench, &mut wire, "GET").await;
            bench
                .check_refused(&got, status, "GW_BAD_REQUEST", detail, "GET")
                .await;
            bench.check_closed(&mut wire, ACCOUNT).await;
        }
        let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20 << 10));
        let trailers = format!("0\r\n{}\r\n", "X-T: 1\r\n".repeat(120));
        for body in [extension, trailers] {
            let send = format!(
                "POST https://{{a}}/ HTTP/1.1\r\n{{std}}Transfer-Encoding: chunked\r\n\r\n{body}"
            );
            let mut wire = say(&bench, send.as_bytes()).await;
            let got = hear(&bench, &mut wire, "POST").await;
            bench
                .check_refused(&got, 400, "GW_BAD_REQUEST", "request_body_cut", "POST")
                .await;
            bench.check_closed(&mut wire, ACCOUNT).await;
        }
        check_accounts(&bench).await;
    })
    .await;
}

/// RFC 9112 section 9.6: what is still on its way must not turn the answer into a reset.
#[tokio::test]
async fn a_refusal_arrives_although_its_caller_still_sends() {
    bench(Plan::default(), async |bench| {
        let rest = vec![b'x'; 200 << 10];
        for (send, status) in [
            (
                &b"POST https://{a}/ HTTP/1.1\r\nHost: {a}\r\nContent-Length: 1048576\r\n\r\n"[..],
                407,
            ),
            (
                b"POST https://{a}/ HTTP/1.1\r\n{std}Content-Length: 1, 2\r\n\r\n",
                400,
            ),
            (b"CONNECT {a}:22 HTTP/1.1\r\n{std}\r\n", 403),
        ] {
            let mut wire = say(&bench, send).await;
            wire.send(&rest).await;
            sleep(Duration::from_millis(50)).await;
            let method = text(send);
            let method = method.split(' ').next().unwrap();
            let got = hear(&bench, &mut wire, method).await;
            assert_eq!(got.status, status, "{}", got.head);
            assert_eq!(got.field("connection"), "close", "{}", got.head);
            let end = wire.rest().await;
            assert_eq!((end.came.len(), end.by), (0, End::Close), "{status}");
        }
        check_accounts(&bench).await;
    })
    .await;
}

/// kintone may answer before it has all of the body: the answer passes, and the caller is told that
/// its connection ends.
#[tokio::test]
async fn an_answer_before_the_body_passes_and_closes() {
    const NO: &[u8] = b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\n{}";
    bench(Plan::default(), async |bench| {
        bench.kintone.script(ACCOUNT, &[on_head(NO, b"")]);
        let mut wire = say(
            &bench,
            b"POST https://{a}/x HTTP/1.1\r\n{std}Content-Length: 100000\r\n\r\nbegin",
        )
        .await;
        let got = hear(&bench, &mut wire, "POST").await;
        assert_eq!(
            (got.status, got.field("connection")),
            (413, "close"),
            "{}",
            got.head
        );
        assert_eq!(wire.rest().await.by, End::Close);
        let mut wire = say(&bench, b"GET https://{a}/y HTTP/1.1\r\n{std}\r\n").await;
        assert_eq!(hear(&bench, &mut wire, "GET").await.status, 200);
        let arrived = bench.kintone.arrived(ACCOUNT);
        assert_ne!(arrived[0].connection, arrived[1].connection);
        check_accounts(&bench).await;
    })
    .await;
}

/// RFC 9112 section 8: a request whose caller is gone is never made whole.
#[tokio::test]
async fn a_request_that_breaks_off_is_never_completed() {
    bench(Plan::default(), async |bench| {
        for send in [
            &b"POST https://{a}/x HTTP/1.1\r\n{std}Content-Length: 10\r\n\r\nhello"[..],
            b"POST https://{a}/x HTTP/1.1\r\n{std}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            b"POST https://{a}/x HTTP/1.1\r\n{std}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        ] {
            let before = bench.kintone.arrived(ACCOUNT).len();
            let mut wire = say(&bench, send).await;
            wire.finish().await;
            let rest = wire.rest().await;
            assert!(!text(&rest.came).contains(" 200 "), "{}", text(&rest.came));
            bench.calls.fetch_add(1, Ordering::Relaxed);
            let calls = bench.calls.load(Ordering::Relaxed);
            bench
                .house
                .until("it is logged", |house| house.output.lines().len() == calls)
                .await;
            for arrived in &bench.kintone.arrived(ACCOUNT)[before..] {
                assert!(!arrived.whole, "{}", text(&arrived.raw));
            }
        }
    })
    .await;
}

/// RFC 9110 section 7.6.2.
#[tokio::test]
async fn an_options_at_its_last_hop_is_answered_here() {
    bench(Plan::default(), async |bench| {
        let send = b"OPTIONS https://{a}/x HTTP/1.1\r\n{std}Max-Forwards: 0\r\n\r\n";
        let mut wire = say(&bench, &send.repeat(2)).await;
        for _ in 0..2 {
            let got = hear(&bench, &mut wire, "OPTIONS").await;
            assert_eq!(
                (got.status, got.field("content-length")),
                (200, "0"),
                "{}",
                got.head
            );
            assert!(got.field("allow").contains("OPTIONS"), "{}", got.head);
            let line = bench
                .house
                .output
                .line_of(got.field("kintone-egress-request-id"))
                .await;
            assert_eq!(
                (&line["outcome"], &line["method"]),
                (&"ok".into(), &"OPTIONS".into())
            );
        }
        assert!(bench.kintone.arrived(ACCOUNT).is_empty());
        check_accounts(&bench).await;
    })
    .await;
}

/// RFC 9110 section 9.3.6: the 200 has no length, and all that kintone has sent arrives before the
/// tunnel closes, though both sides are done.
#[tokio::test]
async fn a_tunnel_delivers_what_the_side_that_closed_has_sent() {
    bench(Plan::default(), async |bench| {
        let size = 3 << 20;
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + size, b'x');
        let length = answer.len();
        let bytes: &'static [u8] = Vec::leak(answer);
        bench.kintone.script(
            ACCOUNT,
            &[Reply {
                on_head: b"",
                bytes,
                then: Then::Close,
            }],
        );
        let mut wire = say(&bench, b"CONNECT {a}:443 HTTP/1.1\r\n{std}\r\n").await;
        let got = wire.answer("CONNECT").await.unwrap();
        assert_eq!(got.status, 200);
        for name in ["content-length", "transfer-encoding", "connection"] {
            assert_eq!(got.field(name), "", "{}", got.head);
        }
        let caller = bench.house.caller().trusting(&bench.kintone.ca_pem);
        let mut tls = caller.tls(wire.into_stream(), ACCOUNT).await.unwrap();
        tls.write_all(b"GET / HTTP/1.1\r\nHost: scene.cybozu.cn\r\n\r\n")
            .await
            .unwrap();
        // The caller is slow: kintone has long closed when it begins to read.
        sleep(Duration::from_millis(300)).await;
        let mut all = Vec::new();
        tls.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), length);
        drop(Arc::clone(&bench));
    })
    .await;
}

/// Hardening: an error repeats nothing of the request, neither to the caller nor in the log.
#[tokio::test]
async fn a_refusal_repeats_nothing_of_the_request() {
    const REQUESTS: &[&[u8]] = &[
        b"GET https://{a}/canary?q=\"canary\" HTTP/1.1\r\n{std}\r\n",
        b"CANARY https://canary:canary@{a}/canary?canary HTTP/1.1\r\n{std}X-Canary: canary\r\n\r\n",
        b"GET canary://{a}/canary HTTP/1.1\r\n{std}Cookie: canary\r\n\r\n",
        b"GET https://canary.example/canary?canary#canary HTTP/1.1\r\n{std}\r\n",
        b"GET https://canary.example/canary?canary HTTP/1.1\r\n{std}\r\n",
        b"CONNECT canary.example:443 HTTP/1.1\r\n{std}Authorization: canary\r\n\r\n",
        b"TRACE https://{a}/canary HTTP/1.1\r\n{std}X-Cybozu-API-Token: canary\r\n\r\n",
        b"GET https://{a}/canary HTTP/1.1\r\nHost: can ary\r\nCanary: canary\r\n\r\n",
        b"GET https://{a}/ HTTP/1.1\r\n{std}Kintone-Egress-Tenant: canary canary\r\n\r\n",
        b"GET https://{a}/ HTTP/1.1\r\nHost: {a}\r\nProxy-Authorization: Basic canary\r\n\r\n",
        b"POST https://{a}/ HTTP/1.1\r\n{std}Content-Length: canary\r\n\r\ncanary",
        b"POST https://{a}/ HTTP/1.1\r\n{std}Transfer-Encoding: chunked\r\n\r\ncanary\r\n",
    ];
    bench(Plan::default(), async |bench| {
        for request in REQUESTS {
            let mut wire = say(&bench, request).await;
            let got = hear(&bench, &mut wire, "GET").await;
            assert!(got.reason.starts_with("GW_"), "{}", got.head);
            let told = format!("{}{}", got.head, text(&got.body)).to_ascii_lowercase();
            assert!(!told.contains("canary"), "{}: {told}", text(request));
        }
        check_accounts(&bench).await;
        let mut lines = bench.house.output.lines();
        for line in &mut lines {
            // The method is a field of its own.
            line["method"] = serde_json::Value::Null;
        }
        let log = format!("{lines:?}").to_ascii_lowercase();
        assert!(!log.contains("canary"), "{log}");
    })
    .await;
}

/// A head of kintone's beyond `head_size` is no answer, nor is one that never ends.
#[tokio::test]
async fn a_head_of_kintones_that_is_too_long_is_no_answer() {
    bench(Plan::default(), async |bench| {
        let long = format!(
            "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\n{{}}",
            "x".repeat(70 << 10)
        );
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\n{{}}",
            "X: 1\r\n".repeat(200)
        );
        for (turn, answer) in [long, many].into_iter().enumerate() {
            let account = format!("long-{turn}.cybozu.cn");
            bench
                .kintone
                .script(&account, &[reply(Vec::leak(answer.into_bytes()))]);
            let mut wire = Wire::connect(bench.house.proxy).await;
            let post = b"POST https://{a}/x HTTP/1.1\r\n{std}Content-Length: 2\r\n\r\n{}";
            for status in [502, 200] {
                wire.send(&Bench::fill(&account, post)).await;
                let got = hear(&bench, &mut wire, "POST").await;
                assert_eq!(got.status, status, "{}", got.head);
            }
            let arrived = bench.kintone.arrived(&account);
            assert_ne!(arrived[0].connection, arrived[1].connection);
        }
        check_accounts(&bench).await;
    })
    .await;
}
