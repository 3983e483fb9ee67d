//! The clock of a beat is read behind the rows of the fleet.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kintone_egress::config::Config;
use kintone_egress::config::file::{Environment, parse};
use kintone_egress::fleet::exchange::Exchange;
use kintone_egress::fleet::ledger::Left;
use kintone_egress::fleet::{Driver, Fleet};
use kintone_egress::quota::Quotas;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::store::Store;

/// How long the store takes to answer.
const DELAY: Duration = Duration::from_millis(100);

fn config(host: &str, url: &str) -> Config {
    let text = format!(
        "[[egress.address]]\npublished = \"18.177.83.94\"\n[callers]\nanonymous = true\n[fleet]\n\
         host = \"{host}\"\nhosts = [\"gw-a\", \"gw-b\"]\nredis = \"{url}\"\n"
    );
    let loaded = parse(&text, Path::new("test.toml"), &Environment::default());
    loaded.unwrap_or_else(|faults| panic!("{faults}")).config
}

/// A host's first beat.
async fn begun(host: &str, url: &str) -> Fleet {
    let config = config(host, url);
    let board = Exchange::new(&config).unwrap().unwrap();
    let quotas = Quotas::new(&config);
    let keep = Arc::new(|_: &[u8]| Ok(()));
    let (fleet, ..) = Driver::begin(&config, board, quotas, Left::NOTHING, keep, 1).await;
    fleet
}

/// A way to the store by which answers come late; tells when rows were last passed on.
async fn slow_way(store: &Store) -> (String, Arc<Mutex<Option<Instant>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let passed_at = Arc::new(Mutex::new(None));
    let (told, address) = (Arc::clone(&passed_at), store.address());
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(address).await.unwrap();
            let (mut near_read, mut near_write) = near.into_split();
            let (mut far_read, mut far_write) = far.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut near_read, &mut far_write).await });
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(read @ 1..) = far_read.read(&mut bytes).await {
                    tokio::time::sleep(DELAY).await;
                    // The rows of two hosts.
                    if bytes.starts_with(b"*2\r\n") {
                        *told.lock().unwrap() = Some(Instant::now());
                    }
                    if near_write.write_all(&bytes[..read]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (url, passed_at)
}

#[tokio::test]
async fn a_beat_takes_rows_to_be_no_older_than_their_coming() {
    let store = Store::start(&[]);
    begun("gw-b", &format!("redis://{}", store.address())).await;
    let (url, passed_at) = slow_way(&store).await;
    let fleet = begun("gw-a", &url).await;
    let view = fleet.view();
    let passed = passed_at.lock().unwrap().expect("rows were passed on");
    let ago = passed.elapsed();
    let heard = view.ledger.peers[0].age.expect("the peer's row was heard");
    let beat = view.store.age.expect("the beat reached the store");
    assert!(heard <= ago, "heard {heard:?} ago, passed on {ago:?} ago");
    assert!(beat <= ago, "beat {beat:?} ago, passed on {ago:?} ago");
}
