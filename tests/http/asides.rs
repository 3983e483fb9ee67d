//! What goes beside requests and answers: 1xx answers, expectations, trailers.

use tokio::time::Instant;

use crate::bench::{Bench, text};
use crate::kintone::OK;
use crate::support::Plan;
use crate::talk::{ACCOUNT, hear, on_head, reply, say};
use crate::wire::End;
use crate::{check_accounts, stand};

/// RFC 9110 section 15.2: a proxy forwards 1xx answers, except to HTTP/1.0.
#[tokio::test]
async fn early_hints_pass_to_callers_that_can_hear_them() {
    const HINTS: &[u8] =
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\
        Connection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 9\r\nKintone-Egress-Cause: x\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    const GET: &[u8] = b"GET https://{a}/x HTTP/1.1\r\n{std}\r\n";
    stand(Plan::default(), async |bench| {
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
    stand(Plan::default(), async |bench| {
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
    stand(Plan::default(), async |bench| {
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
    stand(Plan::default(), async |bench| {
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
    stand(Plan::default(), async |bench| {
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
