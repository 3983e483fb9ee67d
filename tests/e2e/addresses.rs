//! A name with several addresses, asked of a name server: in a network namespace, since kintone's port
//! is always 443.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kintone_sim::TenantSettings;
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use crate::support::invariants::check_refusal;
use crate::support::namespace::in_namespace;
use crate::support::{Plan, house};

/// Nobody listens there.
const REFUSING: Ipv4Addr = Ipv4Addr::new(127, 0, 8, 1);
/// Takes nobody in: connections wait for ever.
const SILENT: Ipv4Addr = Ipv4Addr::new(127, 0, 8, 2);
/// Resets whoever speaks.
const RUDE: Ipv4Addr = Ipv4Addr::new(127, 0, 8, 3);
const GOOD: Ipv4Addr = Ipv4Addr::new(127, 0, 8, 4);

/// Names and their addresses. The zone has no static answer.
const NAMES: [(&str, &[Ipv4Addr]); 5] = [
    ("one.cybozu.cn", &[REFUSING, SILENT, RUDE, GOOD]),
    ("two.cybozu.cn", &[RUDE, GOOD, SILENT, REFUSING]),
    ("three.cybozu.cn", &[SILENT, RUDE, REFUSING, GOOD]),
    ("four.cybozu.cn", &[REFUSING, SILENT]),
    ("five.cybozu.cn", &[SILENT, RUDE]),
];

#[test]
fn every_address_of_a_name_is_tried_within_the_connect_timeout() {
    let name = "addresses::every_address_of_a_name_is_tried_within_the_connect_timeout";
    in_namespace(name, several_addresses);
}

async fn several_addresses() {
    let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).await.unwrap();
    tokio::spawn(async move { answer_names(&names).await });
    let _silent = silent().await;
    let came = rude().await;
    let plan = Plan {
        kintone: SocketAddr::from((GOOD, 443)),
        upstream: "connect_timeout = \"1500ms\"".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        for (name, addresses) in NAMES {
            house.sim.tenant(name, TenantSettings::default());
            let begun = Instant::now();
            let url = format!("https://{name}/k/v1/records.json?app=1");
            let answer = house.caller().get(&url).await;
            let took = begun.elapsed();
            println!("{addresses:?}: {} after {took:?}", answer.status);
            let line = house.output.line_of(answer.id()).await;
            if addresses.contains(&GOOD) {
                assert_eq!(answer.status, 200, "{line}");
                let good = SocketAddrV4::new(GOOD, 443).to_string();
                assert_eq!(line["upstream"], good);
                continue;
            }
            assert!(took < Duration::from_secs(5), "all of them together");
            let (detail, error) = match name {
                "four.cybozu.cn" => ("connect_timeout", "connection_timeout"),
                _ => ("connect_reset", "connection_refused"),
            };
            assert_eq!(line["detail"], detail, "{line}");
            check_refusal(&answer, 502, "GW_UPSTREAM_CONNECT", error);
        }
        assert_eq!(came.load(Ordering::Relaxed), 4, "once for each name");
    })
    .await;
}

/// A listener whose backlog is full, and those who fill it.
async fn silent() -> (Socket, Vec<TcpStream>) {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address = SocketAddrV4::new(SILENT, 443);
    full.bind(&address.into()).unwrap();
    full.listen(0).unwrap();
    let mut held = Vec::new();
    let wait = Duration::from_millis(100);
    while let Ok(Ok(stream)) = timeout(wait, TcpStream::connect(address)).await {
        held.push(stream);
    }
    (full, held)
}

/// How many have come.
async fn rude() -> Arc<AtomicUsize> {
    let listener = TcpListener::bind((RUDE, 443)).await.unwrap();
    let came = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&came);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 4096]).await;
            stream.set_zero_linger().unwrap();
        }
    });
    came
}

/// A name server that knows [`NAMES`] (RFC 1035 section 4).
async fn answer_names(socket: &UdpSocket) {
    let mut query = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut query).await.unwrap();
        let query = &query[..length];
        let (mut labels, mut at) = (Vec::new(), 12);
        while query[at] != 0 {
            let label = &query[at + 1..=at + usize::from(query[at])];
            labels.push(std::str::from_utf8(label).unwrap());
            at += 1 + label.len();
        }
        let name = labels.join(".");
        let known = NAMES.iter().find(|(known, _)| *known == name);
        let addresses = known.map_or(&[][..], |(_, addresses)| addresses);
        let mut answer = query[..at + 5].to_vec();
        // A response, recursion available; one question, so many answers.
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
        for address in addresses {
            // The name of the question, A, IN, a minute, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address.octets());
        }
        socket.send_to(&answer, from).await.unwrap();
    }
}
