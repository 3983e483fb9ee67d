//! The name server lies, falls silent, and changes its mind.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::ensure;
use hickory_server::proto::op::ResponseCode;
use tokio::time::sleep;

use crate::lab::Lab;
use crate::names::{Says, truth};
use crate::site::{IMPOSTOR, KINTONE, KINTONE_V6, PUBLISHED};
use crate::traffic::{Outcome, Way};

/// An answer is kept at least this long, whatever its TTL says.
const KEPT: Duration = Duration::from_millis(5200);

/// A name with IPv6 addresses only is not reached, by IPv4 or otherwise; one with both is, by IPv4.
pub(super) async fn only_ipv6(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let six = || vec![IpAddr::V6(KINTONE_V6)];
    lab.names
        .says("six.cybozu.com", [Says::Addresses(six(), 60)]);
    lab.accounts(&["six.cybozu.com", "both.cybozu.com"]);
    expect(lab, "six.cybozu.com", Outcome::DNS).await?;
    ensure!(lab.sent().await == 0, "nothing leaves for an IPv6 address");
    expect(lab, "both.cybozu.com", Outcome::Ok).await?;
    Ok(())
}

/// Answers that must not be followed, beside one that may: nothing leaves for them.
pub(super) async fn lies(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let before = lab.sent().await;
    let forbidden = FORBIDDEN.map(|(name, address)| {
        lab.names.says(name, [addresses(&[address])]);
        name
    });
    expect_each(lab, &forbidden, Outcome::FORBIDDEN).await?;
    let own = PUBLISHED.map(IpAddr::V4);
    lab.names
        .says("own.cybozu.com", [Says::Addresses(own.to_vec(), 60)]);
    expect(lab, "own.cybozu.com", Outcome::FORBIDDEN).await?;
    let codes = [
        ("nxdomain.cybozu.com", ResponseCode::NXDomain),
        ("nodata.cybozu.com", ResponseCode::NoError),
        ("servfail.cybozu.com", ResponseCode::ServFail),
        ("refused.cybozu.com", ResponseCode::Refused),
    ];
    let broken = codes.map(|(name, code)| {
        lab.names.says(name, [Says::Code(code)]);
        name
    });
    expect_each(lab, &broken, Outcome::DNS).await?;
    lab.names.says("silent.cybozu.com", [Says::Nothing]);
    expect(lab, "silent.cybozu.com", Outcome::DNS).await?;
    let sent = lab.sent().await - before;
    ensure!(sent == 0, "{sent} packets were sent after a lie");
    // Of two addresses the one that may be dialled is.
    let mixed = addresses(&[Ipv4Addr::new(169, 254, 169, 254), KINTONE[0]]);
    lab.names.says("mixed.cybozu.com", [mixed]);
    lab.accounts(&["mixed.cybozu.com"]);
    expect(lab, "mixed.cybozu.com", Outcome::Ok).await?;
    // Somebody else's address cannot be told from kintone's before it shows its certificate.
    lab.names.says("other.cybozu.com", [addresses(&[IMPOSTOR])]);
    for (_, way, outcome) in lab.call_each(&["other.cybozu.com"]).await {
        let expected = match way {
            Way::Read | Way::Write => Outcome::TLS,
            // Here it is the caller who looks at the certificate.
            Way::Tunnel => Outcome::TunnelCut,
        };
        ensure!(outcome == expected, "the impostor, {way:?}: {outcome}");
    }
    Ok(())
}

/// A name changes from kintone to a forbidden address and back with each answer, none of which
/// may be kept: what was judged is what is dialled.
pub(super) async fn rebinding(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    let metadata = || addresses_for(&[Ipv4Addr::new(169, 254, 169, 254)], 0);
    const HOSTS: [&str; 4] = [
        "r1.cybozu.com",
        "r2.cybozu.com",
        "r3.cybozu.com",
        "r4.cybozu.com",
    ];
    lab.accounts(&HOSTS);
    for host in HOSTS {
        lab.names.says(host, [truth(0), metadata(), truth(0)]);
    }
    expect_each(lab, &HOSTS, Outcome::Ok).await?;
    for outcome in [Outcome::FORBIDDEN, Outcome::Ok] {
        sleep(KEPT).await;
        expect_each(lab, &HOSTS, outcome).await?;
    }
    lab.stop(traffic).await;
    Ok(())
}

/// The name server fails in every way for a while: the last answer serves, and no call notices.
pub(super) async fn outage(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    const ACCOUNT: &str = crate::support::ACME;
    lab.names.says(ACCOUNT, [truth(0)]);
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, KEPT, &PUBLISHED).await?;
    for says in [Says::Code(ResponseCode::ServFail), Says::Nothing] {
        lab.names.says(ACCOUNT, [says]);
        lab.all_well(&traffic, Duration::from_secs(2), &PUBLISHED)
            .await?;
    }
    lab.names.says(ACCOUNT, [truth(0)]);
    lab.all_well(&traffic, Duration::from_secs(1), &PUBLISHED)
        .await?;
    lab.stop(traffic).await;
    Ok(())
}

/// Addresses that no name of kintone's may have.
const FORBIDDEN: [(&str, Ipv4Addr); 12] = [
    ("private-10.cybozu.com", Ipv4Addr::new(10, 77, 1, 2)),
    ("private-172.cybozu.com", Ipv4Addr::new(172, 16, 0, 1)),
    ("private-192.cybozu.com", Ipv4Addr::new(192, 168, 1, 1)),
    ("loopback.cybozu.com", Ipv4Addr::LOCALHOST),
    ("loopback-2.cybozu.com", Ipv4Addr::new(127, 9, 9, 9)),
    ("metadata.cybozu.com", Ipv4Addr::new(169, 254, 169, 254)),
    ("shared.cybozu.com", Ipv4Addr::new(100, 64, 0, 1)),
    ("nowhere.cybozu.com", Ipv4Addr::UNSPECIFIED),
    ("multicast.cybozu.com", Ipv4Addr::new(224, 0, 0, 1)),
    ("broadcast.cybozu.com", Ipv4Addr::BROADCAST),
    ("documents.cybozu.com", Ipv4Addr::new(203, 0, 113, 7)),
    ("benchmark.cybozu.com", Ipv4Addr::new(198, 18, 0, 1)),
];

fn addresses(list: &[Ipv4Addr]) -> Says {
    addresses_for(list, 60)
}

fn addresses_for(list: &[Ipv4Addr], ttl: u32) -> Says {
    Says::Addresses(list.iter().copied().map(IpAddr::V4).collect(), ttl)
}

async fn expect(lab: &mut Lab<'_>, host: &'static str, outcome: Outcome) -> anyhow::Result<()> {
    expect_each(lab, &[host], outcome).await
}

/// One call of each way to each host comes to this.
async fn expect_each(
    lab: &mut Lab<'_>,
    hosts: &[&'static str],
    expected: Outcome,
) -> anyhow::Result<()> {
    for (host, way, outcome) in lab.call_each(hosts).await {
        ensure!(
            outcome == expected,
            "{host}, {way:?}: {outcome}, not {expected}"
        );
    }
    Ok(())
}
