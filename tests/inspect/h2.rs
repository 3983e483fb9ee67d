//! HTTP/2 inside, and callers that abuse it: each attack ends in the words of RFC 9113, costs kintone
//! next to nothing, and nobody else notices.

use http::StatusCode;

use crate::frames::{
    ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GOAWAY,
    HEADERS, PING, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, SETTINGS, STATUS_200, block, frame,
    get, request,
};
use crate::support::inspect::PrivateCa;
use crate::support::{ACME, House, Plan, house};

/// Another caller is served as ever.
async fn check_others(house: &House) {
    let answer = house
        .caller()
        .get(&format!("https://{ACME}/k/v1/records.json?app=1"))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
}

/// The stream is a good call, and the connection lives.
async fn check_alive(frames: &mut Frames, stream: u32) {
    frames.send(&request(stream, &get(&[]))).await.unwrap();
    let answer = frames.answer(stream).await;
    assert_eq!(
        (answer.kind, answer.payload[0]),
        (HEADERS, STATUS_200),
        "{answer:?}"
    );
}

#[tokio::test]
async fn its_limits_are_announced() {
    let ca = PrivateCa::new();
    let plan = Plan {
        limits: "h2_streams = 7\nhead_size = \"32KiB\"".into(),
        ..ca.plan(Plan::default())
    };
    house(plan, async |house| {
        let mut frames = Frames::open(&house.caller().trusting(&ca.pem)).await;
        let settings = frames.next().await.unwrap();
        assert_eq!((settings.kind, settings.flags), (SETTINGS, 0));
        let settings = settings.settings();
        for (name, value) in [(3, 7), (4, 256 << 10), (6, 32 << 10)] {
            assert!(settings.contains(&(name, value)), "{settings:?}");
        }
        assert!(
            !settings.iter().any(|(name, _)| *name == 8),
            "no extended CONNECT: {settings:?}"
        );
        frames.send(&frame(PING, 0, 0, b"12345678")).await.unwrap();
        let pong = frames.next_of(PING).await.unwrap();
        assert_eq!((pong.flags, &*pong.payload), (ACK, &b"12345678"[..]));
        check_alive(&mut frames, 1).await;
    })
    .await;
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_unseen() {
    let ca = PrivateCa::new();
    let mut plan = Plan {
        limits: "h2_streams = 2".into(),
        ..ca.plan(Plan::default())
    };
    plan.tenant.latency.base_ms = 300;
    house(plan, async |house| {
        let mut frames = Frames::open(&house.caller().trusting(&ca.pem)).await;
        // The acknowledgement says that the limit is known.
        frames.next_of(SETTINGS).await.unwrap();
        frames.send(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
        frames.send(&frame(PING, 0, 0, b"12345678")).await.unwrap();
        frames.next_of(PING).await.unwrap();
        let all: Vec<u8> = [1, 3, 5]
            .iter()
            .flat_map(|stream| request(*stream, &get(&[])))
            .collect();
        frames.send(&all).await.unwrap();
        let refused = frames.next_of(RST_STREAM).await.unwrap();
        assert_eq!((refused.stream, refused.error()), (5, REFUSED_STREAM));
        for _ in 0..2 {
            assert_eq!(
                frames.next_of(HEADERS).await.unwrap().payload[0],
                STATUS_200
            );
        }
        assert_eq!(house.sim.ledger().executions.len(), 2);
    })
    .await;
}

/// CVE-2023-44487, all at once: the connection ends before the streams become calls.
#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    const STREAMS: u32 = 2000;
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let mut frames = Frames::open(&house.caller().trusting(&ca.pem)).await;
        let mut flood = Vec::new();
        for number in 0..STREAMS {
            let stream = 2 * number + 1;
            flood.extend(request(stream, &get(&[])));
            flood.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        }
        let _ = frames.send(&flood).await;
        let farewell = frames.next_of(GOAWAY).await.expect("it is told why");
        assert_eq!(farewell.error(), ENHANCE_YOUR_CALM);
        while frames.next().await.is_some() {}
        check_others(&house).await;
        let sent = house.sim.ledger().executions.len();
        assert!(sent <= 100, "{sent} calls reached kintone");
    })
    .await;
}

/// The same at a pace that lets each stream become a call: what has left holds no more than its
/// permits, and each call is told of once.
#[tokio::test]
async fn calls_that_are_reset_one_by_one_are_each_over() {
    const STREAMS: u32 = 300;
    let ca = PrivateCa::new();
    let mut plan = Plan {
        quota: "concurrency = 30".into(),
        ceiling: 10,
        ..ca.plan(Plan::default())
    };
    plan.tenant.latency.base_ms = 20;
    house(plan, async |house| {
        let mut frames = Frames::open(&house.caller().trusting(&ca.pem)).await;
        for number in 0..STREAMS {
            let stream = 2 * number + 1;
            frames.send(&request(stream, &get(&[]))).await.unwrap();
            let has_begun = |house: &House| {
                let waiting = house.quotas.snapshot();
                let waiting = waiting.iter().map(|account| account.queued).sum::<u32>();
                let lines = house.output.lines();
                let dropped = lines.iter().filter(|line| line["permit_ms"].is_null());
                let begun = house.quotas.balance().acquired + u64::from(waiting);
                begun + dropped.count() as u64 > u64::from(number)
            };
            house.until("it has begun", has_begun).await;
            frames
                .send(&frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()))
                .await
                .unwrap();
        }
        house
            .until("each is logged", |house| {
                house.output.text().lines().count() == STREAMS as usize
            })
            .await;
        assert!(
            house
                .output
                .lines()
                .iter()
                .all(|line| line["outcome"] == "caller_gone")
        );
        check_alive(&mut frames, 2 * STREAMS + 1).await;
    })
    .await;
}

/// CVE-2024-27316 and its kin: a head that never ends.
#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    const FRAMES_MAX: usize = 1000;
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let mut frames = Frames::open(&house.caller().trusting(&ca.pem)).await;
        let value = "x".repeat(8 << 10);
        frames
            .send(&frame(HEADERS, END_STREAM, 1, &block(&get(&[]))))
            .await
            .unwrap();
        let piece = frame(CONTINUATION, 0, 1, &block(&[("x-more", &value)]));
        let mut sent = 0;
        while sent < FRAMES_MAX && frames.send(&piece).await.is_ok() {
            sent += 1;
        }
        assert!(sent < FRAMES_MAX, "it is read for ever");
        check_others(&house).await;
        assert_eq!(house.sim.ledger().executions.len(), 1, "the other caller's");
    })
    .await;
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused_and_the_connection_lives() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let mut frames = Frames::open(&house.caller().trusting(&ca.pem)).await;
        let value = "x".repeat(12 << 10);
        frames
            .send(&frame(HEADERS, END_STREAM, 1, &block(&get(&[]))))
            .await
            .unwrap();
        for number in 0..6 {
            let flags = if number == 5 { END_HEADERS } else { 0 };
            let piece = frame(CONTINUATION, flags, 1, &block(&[("x-long", &value)]));
            frames.send(&piece).await.unwrap();
        }
        let refused = frames.answer(1).await;
        assert_ne!(refused.payload[0], STATUS_200);
        assert!(
            refused.kind == RST_STREAM || refused.flags & END_STREAM != 0,
            "{refused:?}"
        );
        check_alive(&mut frames, 3).await;
        assert_eq!(house.sim.ledger().executions.len(), 1);
    })
    .await;
}

/// RFC 9113 section 8.1.1: malformed requests are stream errors, and go no further.
#[tokio::test]
async fn malformed_requests_are_reset_each_by_itself() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let mut alive = 0;
        for fields in [
            get(&[("X-Upper", "1")]),
            get(&[("connection", "x-private")]),
            get(&[("transfer-encoding", "chunked")]),
            get(&[("te", "gzip")]),
            get(&[("upgrade", "websocket")]),
            get(&[(":path", "/again")]),
            get(&[(":late", "1")]),
            vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", ACME),
            ],
            vec![(":scheme", "https"), (":authority", ACME), (":path", "/")],
            get(&[("x-injected", "a\r\nHost: evil")]),
        ] {
            let mut frames = Frames::open(&caller).await;
            frames.send(&request(1, &fields)).await.unwrap();
            // What cannot even be decoded ends the connection.
            let end = loop {
                let frame = frames.next().await.expect("it is told why");
                if matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY) {
                    break frame;
                }
            };
            assert_ne!(end.kind, HEADERS, "{fields:?}");
            assert_eq!(end.error(), PROTOCOL_ERROR, "{fields:?}");
            if end.kind == RST_STREAM {
                check_alive(&mut frames, 3).await;
                alive += 1;
            }
        }
        assert!(alive >= 7, "{alive} of ten are errors of a stream alone");
        assert_eq!(house.sim.ledger().executions.len(), alive);
    })
    .await;
}

/// A body that is not as long as it says never becomes a whole request.
#[tokio::test]
async fn a_body_of_another_length_is_never_completed() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let mut frames = Frames::open(&house.caller().trusting(&ca.pem)).await;
        let mut fields = get(&[
            ("content-length", "100"),
            ("content-type", "application/json"),
        ]);
        fields[0] = (":method", "POST");
        fields[3] = (":path", "/k/v1/record.json");
        for (stream, data) in [(1, vec![b'x'; 10]), (3, vec![b'x'; 101])] {
            let head = frame(HEADERS, END_HEADERS, stream, &block(&fields));
            let body = frame(DATA, END_STREAM, stream, &data);
            frames.send(&[head, body].concat()).await.unwrap();
            let answer = frames.answer(stream).await;
            assert_eq!((answer.kind, answer.error()), (RST_STREAM, PROTOCOL_ERROR));
        }
        check_alive(&mut frames, 5).await;
        let ledger = house.sim.ledger();
        let whole = ledger
            .executions
            .iter()
            .filter(|execution| execution.executed);
        assert_eq!(whole.count(), 1);
    })
    .await;
}

/// CVE-2025-8671: a caller that makes us reset its streams is not listened to for long.
#[tokio::test]
async fn a_flood_of_faults_ends_the_connection() {
    const FAULTS_MAX: u32 = 1000;
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let mut frames = Frames::open(&house.caller().trusting(&ca.pem)).await;
        let mut sent = 0;
        while sent < FAULTS_MAX {
            let fault = request(2 * sent + 1, &get(&[("connection", "close")]));
            if frames.send(&fault).await.is_err() {
                break;
            }
            sent += 1;
        }
        let farewell = frames.next_of(GOAWAY).await.expect("it is told why");
        assert_eq!(farewell.error(), ENHANCE_YOUR_CALM);
        check_others(&house).await;
    })
    .await;
}

#[tokio::test]
async fn no_tunnel_leads_out_of_an_inspected_connection() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let mut frames = Frames::open(&house.caller().trusting(&ca.pem)).await;
        let connect = [
            (":method", "CONNECT"),
            (":authority", "acme.cybozu.com:443"),
        ];
        frames
            .send(&frame(HEADERS, END_HEADERS, 1, &block(&connect)))
            .await
            .unwrap();
        let refused = frames.answer(1).await;
        assert_eq!(refused.kind, HEADERS);
        house
            .until("it is logged", |house| house.output.lines().len() == 1)
            .await;
        let line = &house.output.lines()[0];
        assert_eq!(
            (&line["status"], &line["detail"]),
            (&405.into(), &"method_forbidden".into()),
            "{line}"
        );
        check_alive(&mut frames, 3).await;
    })
    .await;
}
