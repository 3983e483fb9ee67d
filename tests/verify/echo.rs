//! An echo whose answers the test decides.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{House, Plan};

/// The first published address of a house, and what is bound for it.
pub(crate) const FIRST: (&str, &str) = ("18.177.83.94", "127.0.1.94");

/// The second.
pub(crate) const SECOND: (&str, &str) = ("35.73.236.241", "127.0.1.241");

/// An address that nobody has published (RFC 5737).
pub(crate) const STRANGE: &str = "203.0.113.77";

/// How often echoes are asked here: the least that the configuration takes.
pub(crate) const INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// What an echo does.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    /// Says how addresses leave.
    Tells(Leaving),
    /// Sends these bytes.
    Sends(String),
    /// Takes the connection and says nothing.
    Hangs,
}

/// How the two bind addresses leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    pub(crate) first: &'static str,
    pub(crate) second: &'static str,
}

/// As published.
pub(crate) const RIGHT: Leaving = Leaving {
    first: FIRST.0,
    second: SECOND.0,
};

/// The first as a strange one.
pub(crate) const FIRST_WRONG: Leaving = Leaving {
    first: STRANGE,
    second: SECOND.0,
};

/// Both as strange ones.
pub(crate) const WRONG: Leaving = Leaving {
    first: STRANGE,
    second: STRANGE,
};

/// A running one.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    does: Arc<Mutex<Does>>,
    asked: Arc<Mutex<Vec<(IpAddr, String)>>>,
    serving: JoinHandle<()>,
}

impl Echo {
    pub(crate) async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let does = Arc::new(Mutex::new(does));
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let (doing, noting) = (Arc::clone(&does), Arc::clone(&asked));
        let serving = tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                let now = lock(&doing).clone();
                tokio::spawn(serve(stream, peer, now, Arc::clone(&noting)));
            }
        });
        Self {
            address,
            does,
            asked,
            serving,
        }
    }

    /// One that tells how addresses leave.
    pub(crate) async fn telling(leaving: Leaving) -> Self {
        Self::start(Does::Tells(leaving)).await
    }

    /// It does that from here on.
    pub(crate) fn now(&self, does: Does) {
        *lock(&self.does) = does;
    }

    /// Who asked, and the head of the request.
    pub(crate) fn asked(&self) -> Vec<(IpAddr, String)> {
        lock(&self.asked).clone()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    does: Does,
    asked: Arc<Mutex<Vec<(IpAddr, String)>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    lock(&asked).push((peer.ip(), String::from_utf8_lossy(&head).into_owned()));
    let answer = match does {
        Does::Tells(leaving) => {
            let seen = if peer.ip().to_string() == FIRST.1 {
                leaving.first
            } else {
                leaving.second
            };
            ok(&format!("{seen}\n"))
        }
        Does::Sends(bytes) => bytes,
        Does::Hangs => {
            // Until the other end gives up.
            let _ = stream.read_u8().await;
            return;
        }
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// A good answer with this body.
pub(crate) fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// `[verify]` with these echoes.
pub(crate) fn verify(echoes: &[&Echo]) -> String {
    let urls = echoes
        .iter()
        .map(|echo| format!("\"http://{}/ip\"", echo.address));
    let urls: Vec<_> = urls.collect();
    format!(
        "[verify]\nurls = [{}]\ninterval = \"1s\"\nunknown_for = \"3s\"\n",
        urls.join(", ")
    )
}

/// A house whose addresses these echoes verify.
pub(crate) fn plan(echoes: &[&Echo]) -> Plan {
    Plan {
        tables: verify(echoes),
        ..Plan::default()
    }
}

/// What `/api/v1/addresses` says of an address.
pub(crate) async fn shown(house: &House, published: &str) -> serde_json::Value {
    let (_, page) = house.admin_page("/api/v1/addresses").await;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let mut addresses = page["addresses"].as_array().unwrap().iter();
    let of = addresses.find(|address| address["published"] == published);
    of.unwrap().clone()
}

/// Waits until `/readyz` says so; how long that took.
pub(crate) async fn until_ready_is(house: &House, status: u16) -> std::time::Duration {
    let began = tokio::time::Instant::now();
    loop {
        let (now, page) = house.admin_page("/readyz").await;
        if now == status {
            return began.elapsed();
        }
        assert!(began.elapsed().as_secs() < 10, "{now}: {page}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Waits until `/api/v1/addresses` says so of the first address; how long that took.
pub(crate) async fn until_seen(house: &House, word: &str) -> std::time::Duration {
    let began = tokio::time::Instant::now();
    while shown(house, FIRST.0).await["verification"]["seen"] != word {
        assert!(began.elapsed() < 10 * INTERVAL, "never seen as {word}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    began.elapsed()
}

/// Has the gateway read its configuration again.
pub(crate) async fn reload(house: &House) {
    let post = format!(
        "POST /api/v1/reload HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        house.admin
    );
    let answer = crate::support::caller::ask_raw(house.admin, post.as_bytes()).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
