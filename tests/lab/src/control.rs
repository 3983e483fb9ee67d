//! The laboratory proves that it can see: what a careless gateway would do is done here, and must
//! work, and must be noticed by everything that watches.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::Method;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::lab::start_kintone;
use crate::site::{KINTONE, KINTONE_V6, PUBLISHED, Site};
use crate::support::ACME;
use crate::support::caller::{Caller, read};
use crate::traffic::caller;
use crate::wire::Tap;

/// How long anything may take in a laboratory that is at rest.
const WAIT: Duration = Duration::from_secs(5);

/// Does what nobody may do, and looks who notices.
pub(crate) async fn check(site: &Site, dir: &Path) -> anyhow::Result<()> {
    let sim = start_kintone(&site.kintone, &dir.join("ca")).await?;
    let _six = site
        .kintone
        .run(TcpListener::bind((KINTONE_V6, 443)))
        .await?;
    let taps = site.taps()?;
    site.witness()?;
    let kintone = SocketAddr::from((KINTONE[0], 443));

    // From a published address: kintone answers, and nobody minds.
    for published in PUBLISHED {
        let status = get(site, sim.ca_pem(), Some(published), kintone).await?;
        ensure!(status == 200, "kintone answers {published} with {status}");
        expect(site, &taps, Notice::Nothing).await?;
    }
    // From the address that the kernel takes by itself: kintone refuses, everybody notices.
    let status = get(site, sim.ca_pem(), None, kintone).await?;
    ensure!(status == 403, "kintone answers a stranger with {status}");
    expect(site, &taps, Notice::Router).await?;
    // By IPv6, which would be possible.
    connect(site, None, (KINTONE_V6, 443).into()).await?;
    expect(site, &taps, Notice::Router).await?;
    // To another port: refused by kintone, but seen.
    let other = connect(site, Some(PUBLISHED[0]), (KINTONE[0], 8443).into()).await;
    ensure!(other.is_err(), "nobody listens there");
    expect(site, &taps, Notice::Router).await?;
    // To the gateway host itself, by loopback and by a published address.
    for own in [Ipv4Addr::LOCALHOST, PUBLISHED[0]] {
        let own = connect(site, None, (own, 443).into()).await;
        ensure!(own.is_err(), "nobody listens there");
        expect(site, &taps, Notice::Host).await?;
    }
    Ok(())
}

/// Who noticed something that may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    Nothing,
    /// The tap of the router, and its kernel.
    Router,
    /// The tap of the gateway host.
    Host,
}

/// Waits until exactly those have noticed something since this was called last.
async fn expect(site: &Site, taps: &[Tap; 2], notice: Notice) -> anyhow::Result<()> {
    // What the tap of the gateway's host says comes last, and there is no sign of nothing.
    sleep(Duration::from_millis(150)).await;
    let strays = site.witness()?.strays;
    let [router, host] = taps.each_ref().map(|tap| tap.take().strays);
    let noticed = (router > 0, strays > 0, host > 0);
    let expected = match notice {
        Notice::Nothing => (false, false, false),
        Notice::Router => (true, true, false),
        Notice::Host => (false, false, true),
    };
    ensure!(
        noticed == expected,
        "strays on the wire {router}, by the kernel {strays}, within the host {host}; expected of \
         {notice:?} alone"
    );
    Ok(())
}

async fn connect(site: &Site, from: Option<Ipv4Addr>, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let connecting = async move {
        let socket = if to.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(from) = from {
            socket.bind((IpAddr::V4(from), 0).into())?;
        }
        socket.connect(to).await
    };
    let connected = site.gateway.run(timeout(WAIT, connecting)).await;
    connected
        .with_context(|| format!("{to} does not answer"))?
        .with_context(|| format!("connecting to {to}"))
}

/// The status of a GET from that address.
async fn get(
    site: &Site,
    ca_pem: &str,
    from: Option<Ipv4Addr>,
    to: SocketAddr,
) -> anyhow::Result<u16> {
    let stream = connect(site, from, to).await?;
    let caller = caller(ca_pem);
    let asked = async move {
        let tls = caller.tls(stream, ACME).await?;
        let (mut sender, connection) = handshake(TokioIo::new(tls)).await?;
        let connection = tokio::spawn(connection);
        let request = Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "");
        let answer = read(sender.send_request(request).await?).await?;
        connection.abort();
        anyhow::Ok(answer.status.as_u16())
    };
    site.gateway.run(timeout(WAIT, asked)).await?
}
