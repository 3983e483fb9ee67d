//! Callers that call all the time, and what each of their calls came to.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{Empty, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::gateway::PROXY_PORT;
use crate::host::Host;
use crate::report;
use crate::site::GATEWAY_LAN;
use crate::support::caller::{Answer, Caller, read, record};
use crate::support::invariants::check_refusal;
use crate::support::{ACME, TOKEN, basic};

/// How a caller calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// GET in absolute form.
    Read,
    /// POST of a record that there is only once, in absolute form.
    Write,
    /// GET through a tunnel of its own.
    Tunnel,
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// kintone's 200.
    Ok,
    /// The gateway's own code.
    Code(&'static str),
    /// Another answer of kintone's.
    Kintone(u16),
    /// Nobody listens at the gateway's address.
    NoGateway,
    /// The connection ended before the answer did.
    Cut,
    /// The same in a tunnel that had been opened.
    TunnelCut,
    /// No end at all in [`PATIENCE`].
    Hung,
    /// An answer of the gateway's own that is not as the contract has it.
    NotAsPromised,
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) begun: Instant,
    pub(crate) outcome: Outcome,
    /// The published address that the gateway says it left from.
    pub(crate) address: String,
    /// The title of the record that it was to write.
    pub(crate) title: Option<String>,
}

impl Outcome {
    /// No published address can be used.
    pub(crate) const UNAVAILABLE: Self = Self::Code("GW_EGRESS_UNAVAILABLE");
    /// The name resolves to an address that may not be dialled.
    pub(crate) const FORBIDDEN: Self = Self::Code("GW_DESTINATION_FORBIDDEN");
    /// No permit within the wait.
    pub(crate) const NO_PERMIT: Self = Self::Code("GW_WAIT_EXCEEDED");
    /// The gateway goes away.
    pub(crate) const DRAINING: Self = Self::Code("GW_DRAINING");
    /// The name has no address.
    pub(crate) const DNS: Self = Self::Code("GW_UPSTREAM_DNS");
    /// kintone was not reached.
    pub(crate) const CONNECT: Self = Self::Code("GW_UPSTREAM_CONNECT");
    /// Who answered is not kintone, or nobody did in time.
    pub(crate) const TLS: Self = Self::Code("GW_UPSTREAM_TLS");
    /// Sent, and no answer came in time.
    pub(crate) const TIMEOUT: Self = Self::Code("GW_UPSTREAM_TIMEOUT");
    /// Sent, and the connection broke.
    pub(crate) const RESET: Self = Self::Code("GW_UPSTREAM_RESET");

    /// The gateway promises that nothing of it was sent to kintone.
    pub(crate) fn means_not_sent(self) -> bool {
        let unknown = [Self::TIMEOUT, Self::RESET];
        matches!(self, Self::Code(_) | Self::NoGateway) && !unknown.contains(&self)
    }
}

/// How often each outcome came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(pub(crate) BTreeMap<Outcome, u64>);

/// Callers that call until they are told to stop.
pub(crate) struct Traffic {
    calls: Arc<Mutex<Vec<Call>>>,
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<()>>,
}

/// No call takes longer: longer than every limit of the gateway together.
const PATIENCE: Duration = Duration::from_secs(25);

/// Pause of a caller between two calls.
const PAUSE: Duration = Duration::from_millis(15);

/// Callers of each way.
const CALLERS: [(Way, usize); 3] = [(Way::Read, 6), (Way::Write, 4), (Way::Tunnel, 4)];

/// Numbers titles over all scenarios.
static TITLES: AtomicU64 = AtomicU64::new(0);

impl Traffic {
    /// Sets callers going.
    pub(crate) fn start(host: &Host, ca_pem: &str) -> Self {
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let caller = caller(ca_pem);
        let ways = CALLERS
            .iter()
            .flat_map(|(way, count)| [*way].repeat(*count));
        let callers = ways.map(|way| {
            let (caller, calls, stop) = (caller.clone(), Arc::clone(&calls), Arc::clone(&stop));
            host.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let call = call(&caller, way, ACME).await;
                    lock(&calls).push(call);
                    sleep(PAUSE).await;
                }
            })
        });
        Self {
            callers: callers.collect(),
            calls,
            stop,
        }
    }

    /// Lets the calls under way end, and takes no more; all that were made.
    pub(crate) async fn stop(mut self) -> Vec<Call> {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers.drain(..) {
            caller.await.expect("a caller does not panic");
        }
        std::mem::take(&mut lock(&self.calls))
    }

    /// Calls that have begun at `from` or later and have ended.
    pub(crate) fn since(&self, from: Instant) -> Vec<Call> {
        let calls = lock(&self.calls);
        let calls = calls.iter().filter(|call| call.begun >= from);
        calls.cloned().collect()
    }
}

fn lock(calls: &Mutex<Vec<Call>>) -> MutexGuard<'_, Vec<Call>> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A caller with the right token.
pub(crate) fn caller(ca_pem: &str) -> Caller {
    let proxy = SocketAddr::from((GATEWAY_LAN, PROXY_PORT));
    Caller::new(proxy, ca_pem, "events", TOKEN)
}

/// One call to kintone as `host`.
pub(crate) async fn call(caller: &Caller, way: Way, host: &str) -> Call {
    let begun = Instant::now();
    let title =
        (way == Way::Write).then(|| format!("lab-{}", TITLES.fetch_add(1, Ordering::Relaxed)));
    let path = "/k/v1/records.json?app=1";
    let url = format!("https://{host}{path}");
    let answered = timeout(PATIENCE, async {
        match (way, &title) {
            (Way::Tunnel, _) => through_tunnel(caller, host, path).await,
            (Way::Write, Some(title)) => {
                let url = format!("https://{host}/k/v1/record.json");
                ask(caller.request(Method::POST, &url, record(title))).await
            }
            (Way::Read | Way::Write, _) => ask(caller.request(Method::GET, &url, "")).await,
        }
    });
    let (outcome, address) = match answered.await {
        Err(_elapsed) => (Outcome::Hung, String::new()),
        Ok(Err(outcome)) => (outcome, String::new()),
        Ok(Ok(answer)) => judge(&answer),
    };
    Call {
        begun,
        outcome,
        address,
        title,
    }
}

/// What an answer means. One of the gateway's own must be as the contract has it.
fn judge(answer: &Answer) -> (Outcome, String) {
    let address = answer.header("kintone-egress-address").to_owned();
    if answer.status == StatusCode::OK {
        return (Outcome::Ok, address);
    }
    let body = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap_or_default();
    let code = body["code"].as_str().unwrap_or_default();
    if !code.starts_with("GW_") {
        return (Outcome::Kintone(answer.status.as_u16()), address);
    }
    let row = CONTRACT.iter().find(|(known, _)| *known == code);
    let error = answer.header("proxy-status").rsplit('=').next();
    let error = error.unwrap_or_default();
    let outcome = match row {
        Some((code, status))
            if catch_unwind(|| check_refusal(answer, *status, code, error)).is_ok() =>
        {
            Outcome::Code(code)
        }
        // The panic has said what is wrong.
        Some(_) => Outcome::NotAsPromised,
        None => {
            report::say(&format!("an answer that nobody expects: {answer:?}"));
            Outcome::NotAsPromised
        }
    };
    (outcome, address)
}

/// Codes that can come up in the laboratory, with their statuses (contract, section 6).
const CONTRACT: &[(&str, u16)] = &[
    ("GW_DESTINATION_FORBIDDEN", 403),
    ("GW_QUEUE_FULL", 429),
    ("GW_WAIT_EXCEEDED", 429),
    ("GW_EGRESS_UNAVAILABLE", 503),
    ("GW_DRAINING", 503),
    ("GW_UPSTREAM_DNS", 502),
    ("GW_UPSTREAM_CONNECT", 502),
    ("GW_UPSTREAM_TLS", 502),
    ("GW_UPSTREAM_TIMEOUT", 504),
    ("GW_UPSTREAM_RESET", 502),
];

async fn connect() -> Result<TcpStream, Outcome> {
    let stream = TcpStream::connect((GATEWAY_LAN, PROXY_PORT))
        .await
        .map_err(|_| Outcome::NoGateway)?;
    stream.set_nodelay(true).map_err(|_| Outcome::Cut)?;
    Ok(stream)
}

async fn ask(request: Request<Full<Bytes>>) -> Result<Answer, Outcome> {
    let (mut sender, connection) = handshake(TokioIo::new(connect().await?))
        .await
        .map_err(cut)?;
    let connection = tokio::spawn(connection);
    let answer = send(&mut sender, request).await;
    connection.abort();
    answer
}

async fn through_tunnel(caller: &Caller, host: &str, path: &str) -> Result<Answer, Outcome> {
    let (mut sender, connection) = handshake(TokioIo::new(connect().await?))
        .await
        .map_err(cut)?;
    tokio::spawn(connection.with_upgrades());
    let connect = Request::connect(format!("{host}:443"))
        .header("host", format!("{host}:443"))
        .header("proxy-authorization", basic("events"))
        .body(Empty::<Bytes>::new())
        .map_err(|_| Outcome::Cut)?;
    let response = sender.send_request(connect).await.map_err(cut)?;
    if response.status() != StatusCode::OK {
        return read(response).await.map_err(cut);
    }
    let address = response.headers().get("kintone-egress-address").cloned();
    let tunnel = hyper::upgrade::on(response)
        .await
        .map_err(|_| Outcome::TunnelCut)?;
    let tunnel = tunnel
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| Outcome::TunnelCut)?;
    let tunnel = tunnel.io.into_inner();
    let tls = caller
        .tls(tunnel, host)
        .await
        .map_err(|_| Outcome::TunnelCut)?;
    let (mut inner, connection) = handshake(TokioIo::new(tls))
        .await
        .map_err(|_| Outcome::TunnelCut)?;
    let connection = tokio::spawn(connection);
    let request = Caller::inner(Method::GET, host, path, "");
    let answer = send(&mut inner, request).await.map(|mut answer| {
        answer.headers.extend(address.map(|address| {
            let name = http::HeaderName::from_static("kintone-egress-address");
            (name, address)
        }));
        answer
    });
    connection.abort();
    answer.map_err(|_| Outcome::TunnelCut)
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Outcome> {
    let response = sender.send_request(request).await.map_err(cut)?;
    read(response).await.map_err(cut)
}

fn cut(_: hyper::Error) -> Outcome {
    Outcome::Cut
}

impl Tally {
    /// Counts outcomes.
    pub(crate) fn of(calls: &[Call]) -> Self {
        let mut tally = Self::default();
        for call in calls {
            *tally.0.entry(call.outcome).or_default() += 1;
        }
        tally
    }

    /// All calls.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Calls with one outcome.
    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.0.get(&outcome).copied().unwrap_or_default()
    }

    /// Outcomes that are not among those allowed.
    pub(crate) fn beyond(&self, allowed: &[Outcome]) -> Self {
        let beyond = self
            .0
            .iter()
            .filter(|(outcome, _)| !allowed.contains(outcome));
        Self(beyond.map(|(outcome, count)| (*outcome, *count)).collect())
    }
}

/// How many calls left from each published address.
pub(crate) fn by_address(calls: &[Call]) -> BTreeMap<&str, u64> {
    let mut addresses = BTreeMap::new();
    for call in calls.iter().filter(|call| !call.address.is_empty()) {
        *addresses.entry(call.address.as_str()).or_default() += 1;
    }
    addresses
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no calls");
        }
        for (place, (outcome, count)) in self.0.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {outcome}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Code(code) => f.write_str(code.trim_start_matches("GW_")),
            Self::Kintone(status) => write!(f, "kintone's {status}"),
            Self::NoGateway => f.write_str("no gateway"),
            Self::Cut => f.write_str("cut"),
            Self::TunnelCut => f.write_str("tunnel cut"),
            Self::Hung => f.write_str("hung"),
            Self::NotAsPromised => f.write_str("not as promised"),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
