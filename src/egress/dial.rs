//! The only bind and the only connect of the data path.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::snapshot::Presence;
use super::verdict::Verdict;
use crate::descriptors::{self, Room};
use crate::model::{Bind, Denial, Detail, Failure};

/// Idle time before the kernel probes a connection, and between its probes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// How long sent data may stay without acknowledgement (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one address of several is waited for before the next is tried too (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// A connection, and where it goes.
pub(super) type Dialled = (TcpStream, SocketAddrV4);

/// Connects from `bind` to the first of `destinations` that answers. They are tried in turn, the
/// next one after a failure or [`STAGGER`]; one connection is left in the end. The caller bounds
/// the time.
///
/// # Errors
/// The last failure, and where it happened.
pub(super) async fn dial(
    bind: Bind,
    destinations: &[SocketAddrV4],
) -> Result<Dialled, (Verdict, Option<SocketAddrV4>)> {
    let mut waiting = destinations.iter().copied();
    let Some(first) = waiting.next() else {
        return Err((Verdict::Failed(Failure::Dns(Detail::DnsNotFound)), None));
    };
    if destinations.len() == 1 {
        return dial_one(bind, first)
            .await
            .map_err(|verdict| (verdict, Some(first)));
    }
    let mut running = JoinSet::new();
    let start = |running: &mut JoinSet<_>, to: SocketAddrV4| {
        running.spawn(async move { (dial_one(bind, to).await.map(|ok| ok.0), to) });
    };
    start(&mut running, first);
    let mut last = (Verdict::Failed(Failure::Internal), Some(first));
    loop {
        let ended = if waiting.len() == 0 {
            running.join_next().await
        } else {
            let Ok(ended) = tokio::time::timeout(STAGGER, running.join_next()).await else {
                waiting
                    .next()
                    .into_iter()
                    .for_each(|to| start(&mut running, to));
                continue;
            };
            ended
        };
        match ended {
            Some(Ok((Ok(stream), to))) => return Ok((stream, to)),
            Some(Ok((Err(verdict), to))) => last = (verdict, Some(to)),
            Some(Err(_)) => {}
            None => return Err(last),
        }
        // Ports may be left towards another address; nothing else is better there.
        if !is_worth_another(last.0) {
            return Err(last);
        }
        waiting
            .next()
            .into_iter()
            .for_each(|to| start(&mut running, to));
    }
}

/// The same until `deadline`.
///
/// # Errors
/// The last failure, and where it happened.
pub(super) async fn dial_until(
    deadline: Instant,
    bind: Bind,
    destinations: &[SocketAddrV4],
) -> Result<Dialled, (Verdict, Option<SocketAddrV4>)> {
    let dialled = timeout_at(deadline, dial(bind, destinations)).await;
    dialled.unwrap_or_else(|_| {
        let timeout = Verdict::Failed(Failure::Connect(Detail::ConnectTimeout));
        Err((timeout, destinations.last().copied()))
    })
}

const fn is_worth_another(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Failed(_) | Verdict::Denied(Denial::Overloaded(Detail::LocalPorts))
    )
}

/// Whether `bind` is on this host: binds a socket to it and lets it go.
pub(super) fn probe(bind: Bind) -> Presence {
    match bound_socket(bind) {
        Err(error) if error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32) => Presence::Absent,
        // Out of descriptors or memory says nothing about the address.
        Ok(_) | Err(_) => Presence::Up,
    }
}

async fn dial_one(bind: Bind, to: SocketAddrV4) -> Result<Dialled, Verdict> {
    let socket = bound_socket(bind).map_err(|error| judge_bind(&error))?;
    if descriptors::room(&socket) >= Room::Scarce {
        return Err(Verdict::Denied(Denial::Overloaded(Detail::FileDescriptors)));
    }
    match TcpSocket::from_std_stream(socket.into())
        .connect(SocketAddr::V4(to))
        .await
    {
        Ok(stream) => Ok((stream, to)),
        Err(error) => Err(judge_connect(&error, bind)),
    }
}

/// A socket that can leave from `bind` and from nowhere else. The port is chosen at connect, so
/// that it need be free only towards that destination.
fn bound_socket(bind: Bind) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV4,
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.bind(&SocketAddrV4::new(bind.0, 0).into())?;
    Ok(socket)
}

fn judge_bind(error: &io::Error) -> Verdict {
    if let Some(denial) = judge_resource(error) {
        return Verdict::Denied(denial);
    }
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRNOTAVAIL) => {
            Verdict::Denied(Denial::EgressUnavailable(Detail::AddressAbsent))
        }
        Some(_) | None => Verdict::Failed(Failure::Internal),
    }
}

fn judge_connect(error: &io::Error, bind: Bind) -> Verdict {
    if let Some(denial) = judge_resource(error) {
        return Verdict::Denied(denial);
    }
    let errno = error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw);
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the kernel has many more; none of them lets a packet leave"
    )]
    match errno {
        // EINVAL: the source address went away between bind and connect.
        Errno::EADDRNOTAVAIL | Errno::EINVAL if probe(bind) == Presence::Absent => {
            Verdict::Denied(Denial::EgressUnavailable(Detail::AddressAbsent))
        }
        Errno::EADDRNOTAVAIL => Verdict::Denied(Denial::Overloaded(Detail::LocalPorts)),
        Errno::ECONNREFUSED => Verdict::Failed(Failure::Connect(Detail::ConnectRefused)),
        Errno::ETIMEDOUT => Verdict::Failed(Failure::Connect(Detail::ConnectTimeout)),
        Errno::ECONNRESET => Verdict::Failed(Failure::Connect(Detail::ConnectReset)),
        _ => Verdict::Failed(Failure::Connect(Detail::ConnectUnreachable)),
    }
}

fn judge_resource(error: &io::Error) -> Option<Denial> {
    let errno = Errno::from_raw(error.raw_os_error()?);
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only these four mean that this host has run out of something"
    )]
    let detail = match errno {
        Errno::EMFILE | Errno::ENFILE => Detail::FileDescriptors,
        Errno::ENOBUFS | Errno::ENOMEM => Detail::Memory,
        _ => return None,
    };
    Some(Denial::Overloaded(detail))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nix::sys::socket::getsockopt;
    use tokio::net::TcpListener;

    use super::*;

    const BIND: Bind = Bind(Ipv4Addr::new(127, 0, 0, 77));

    /// Documentation address (RFC 5737), on no host.
    const ABSENT: Bind = Bind(Ipv4Addr::new(203, 0, 113, 9));

    async fn listener(ip: Ipv4Addr, port: u16) -> (TcpListener, SocketAddrV4) {
        let listener = TcpListener::bind((ip, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, SocketAddrV4::new(ip, port))
    }

    /// On loopback a connection is in the backlog as soon as `connect` has begun.
    fn nobody_came(listener: TcpListener) -> bool {
        let accepted = listener.into_std().unwrap().accept();
        accepted.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn a_bound_socket_has_the_address_and_no_port_yet() {
        let socket = bound_socket(BIND).unwrap();
        let local = socket.local_addr().unwrap().as_socket_ipv4().unwrap();
        assert_eq!(local, SocketAddrV4::new(BIND.0, 0));
        assert!(getsockopt(&socket, IpBindAddressNoPort).unwrap());
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    }

    #[test]
    fn an_address_of_another_host_is_absent() {
        assert_eq!(probe(ABSENT), Presence::Absent);
        assert_eq!(probe(BIND), Presence::Up);
    }

    #[tokio::test]
    async fn nothing_leaves_when_the_address_is_absent() {
        let (listener, to) = listener(Ipv4Addr::LOCALHOST, 0).await;
        let denied = Verdict::Denied(Denial::EgressUnavailable(Detail::AddressAbsent));
        assert_eq!(dial(ABSENT, &[to]).await.unwrap_err(), (denied, Some(to)));
        assert_eq!(dial(ABSENT, &[to, to]).await.unwrap_err().0, denied);
        assert!(nobody_came(listener));
    }

    #[tokio::test]
    async fn the_peer_sees_the_bound_address() {
        let (listener, to) = listener(Ipv4Addr::LOCALHOST, 0).await;
        let (stream, upstream) = dial(BIND, &[to]).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.ip(), BIND.0);
        assert_eq!(peer, stream.local_addr().unwrap());
        assert_eq!(upstream, to);
    }

    #[tokio::test]
    async fn the_next_address_is_tried_after_a_refusal_and_one_connection_is_left() {
        let (two, second) = listener(Ipv4Addr::new(127, 0, 0, 2), 0).await;
        let refusing = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 3), second.port());
        let (three, third) = listener(Ipv4Addr::new(127, 0, 0, 4), second.port()).await;
        let (_stream, upstream) = dial(BIND, &[refusing, second, third]).await.unwrap();
        assert_eq!(upstream, second);
        two.accept().await.unwrap();
        assert!(nobody_came(three));

        drop(two);
        let refused = Verdict::Failed(Failure::Connect(Detail::ConnectRefused));
        let error = dial(BIND, &[refusing, second]).await.unwrap_err();
        assert_eq!(error, (refused, Some(second)));
    }

    #[tokio::test]
    async fn a_silent_address_delays_by_the_stagger_only() {
        // A listener whose backlog is full drops further SYNs.
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 5), 0).into())
            .unwrap();
        full.listen(0).unwrap();
        let silent = full.local_addr().unwrap().as_socket_ipv4().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(100), dial(BIND, &[silent])).await
        {
            held.push(stream);
        }
        let (_listener, second) = listener(Ipv4Addr::LOCALHOST, 0).await;
        let (_stream, upstream) = dial(BIND, &[silent, second]).await.unwrap();
        assert_eq!(upstream, second);
    }

    #[test]
    fn errors_of_the_kernel_are_told_apart() {
        let of = |errno: Errno| io::Error::from_raw_os_error(errno as i32);
        let connect = |errno| judge_connect(&of(errno), BIND);
        let failed = |detail| Verdict::Failed(Failure::Connect(detail));
        let overloaded = |detail| Verdict::Denied(Denial::Overloaded(detail));
        let absent = Verdict::Denied(Denial::EgressUnavailable(Detail::AddressAbsent));
        for errno in [Errno::EMFILE, Errno::ENFILE] {
            assert_eq!(judge_bind(&of(errno)), overloaded(Detail::FileDescriptors));
        }
        assert_eq!(judge_bind(&of(Errno::EADDRNOTAVAIL)), absent);
        assert_eq!(
            judge_bind(&of(Errno::EACCES)),
            Verdict::Failed(Failure::Internal)
        );
        assert_eq!(
            connect(Errno::EADDRNOTAVAIL),
            overloaded(Detail::LocalPorts)
        );
        assert_eq!(judge_connect(&of(Errno::EADDRNOTAVAIL), ABSENT), absent);
        assert_eq!(judge_connect(&of(Errno::EINVAL), ABSENT), absent);
        assert_eq!(connect(Errno::ECONNREFUSED), failed(Detail::ConnectRefused));
        assert_eq!(connect(Errno::ETIMEDOUT), failed(Detail::ConnectTimeout));
        assert_eq!(
            connect(Errno::ENETUNREACH),
            failed(Detail::ConnectUnreachable)
        );
        assert_eq!(
            connect(Errno::EHOSTUNREACH),
            failed(Detail::ConnectUnreachable)
        );
        assert_eq!(connect(Errno::ENOBUFS), overloaded(Detail::Memory));
    }
}
