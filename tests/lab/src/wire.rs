//! Taps: every frame of a namespace, read from the kernel before any filter sees it, and judged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::host;
use crate::packet::{Judged, Packet, judge, read};

/// What a tap has seen since it was opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Packets towards kintone, by the published address they left from.
    pub(crate) promised: BTreeMap<Ipv4Addr, u64>,
    /// Packets to the name server.
    pub(crate) names: u64,
    /// Packets to echoes.
    pub(crate) echoes: u64,
    /// Everything else that is no chatter between neighbours.
    pub(crate) strays: u64,
    /// The first of those, in words.
    pub(crate) strays_told: BTreeSet<String>,
}

impl Seen {
    /// Packets towards kintone, as promised.
    pub(crate) fn promised(&self) -> u64 {
        self.promised.values().sum()
    }
}

/// A tap, until it is dropped.
pub(crate) struct Tap {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
}

/// Strays that are told in words.
const TOLD_MAX: usize = 20;

/// Bytes of a frame that are read: the headers.
const SNAP: usize = 128;

/// Room for frames that have not been read, so that a busy moment loses none.
const BUFFER: usize = 64 * 1024 * 1024;

/// How often a tap looks whether it should end.
const LOOK: i64 = 100;

/// `pkttype` of a frame that leaves (packet(7), `PACKET_OUTGOING`).
const OUTGOING: u8 = 4;

/// How frames of a tap are judged: interface, direction, the frame itself.
type Judge = Box<dyn Fn(usize, Direction, &[u8]) -> Judged + Send>;

/// Which way a frame goes, as seen from the namespace of the tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

impl Tap {
    /// Everything that comes out of the gateway, seen by the router at the other end of the cable.
    pub(crate) fn of_router(namespace: &'static str, uplink: &'static str) -> anyhow::Result<Self> {
        Self::open(namespace, move || {
            let uplink = if_nametoindex(uplink)? as usize;
            Ok(Box::new(move |interface, direction, frame| {
                if interface == uplink && direction == Direction::In {
                    judge(frame)
                } else {
                    Judged::Link
                }
            }))
        })
    }

    /// What the gateway sends to itself, and to its callers' network: no attempt to reach anybody.
    pub(crate) fn of_gateway(
        namespace: &'static str,
        uplink: &'static str,
    ) -> anyhow::Result<Self> {
        Self::open(namespace, move || {
            let uplink = if_nametoindex(uplink)? as usize;
            Ok(Box::new(move |interface, direction, frame| {
                if interface == uplink || direction == Direction::In {
                    return Judged::Link;
                }
                match read(frame) {
                    Ok(Some(packet)) if is_attempt(&packet) => Judged::Stray(packet.to_string()),
                    Ok(_) | Err(_) => Judged::Link,
                }
            }))
        })
    }

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// What it has seen since it was asked last.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut lock(&self.seen))
    }

    fn open(
        namespace: &'static str,
        judge: impl FnOnce() -> anyhow::Result<Judge> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = std::sync::mpsc::channel();
        let (book, end) = (Arc::clone(&seen), Arc::clone(&stop));
        thread::Builder::new()
            .name(format!("tap-{namespace}"))
            .spawn(move || {
                let opened = host::enter(namespace)
                    .and_then(|()| judge())
                    .and_then(|judge| Ok((open_socket()?, judge)));
                match opened {
                    Ok((socket, judge)) => {
                        // Whoever opened it waits until it is open.
                        let _ = tell.send(Ok(()));
                        listen(&socket, &judge, &book, &end);
                    }
                    Err(error) => {
                        let _ = tell.send(Err(error));
                    }
                }
            })?;
        told.recv().context("the thread of a tap has died")??;
        Ok(Self { seen, stop })
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Whether somebody wants to be reached by it.
fn is_attempt(packet: &Packet) -> bool {
    use crate::packet::{Carries, Tcp};
    use crate::site::ADMIN_PORT;
    match packet.carries {
        Carries::Tcp {
            kind: Tcp::Opening,
            to_port,
            ..
        } => {
            // The laboratory itself reads the metrics.
            !(packet.to.is_loopback() && to_port == ADMIN_PORT)
        }
        Carries::Tcp { kind: Tcp::Any, .. } => false,
        Carries::Udp { .. } | Carries::Other(_) => true,
        // The kernel's word to itself that a neighbour does not answer.
        Carries::Icmp => packet.from != packet.to,
        Carries::IcmpV6(kind) => !matches!(kind, 130..=137 | 143),
    }
}

fn open_socket() -> anyhow::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .context("a packet socket (needs CAP_NET_RAW)")?;
    setsockopt(&socket, RcvBufForce, &BUFFER)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(LOOK))?;
    Ok(socket)
}

fn listen(socket: &OwnedFd, judge: &Judge, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut frame = [0; SNAP];
    while !stop.load(Ordering::Relaxed) {
        let (length, from) = match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
            Ok((length, Some(from))) => (length, from),
            Ok((_, None)) | Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => continue,
            Err(error) => {
                let mut seen = lock(seen);
                seen.strays += 1;
                seen.strays_told.insert(format!("the tap is deaf: {error}"));
                return;
            }
        };
        let direction = if from.pkttype() == OUTGOING {
            Direction::Out
        } else {
            Direction::In
        };
        let judged = judge(from.ifindex(), direction, &frame[..length.min(SNAP)]);
        note(&mut lock(seen), judged);
    }
}

fn note(seen: &mut Seen, judged: Judged) {
    match judged {
        Judged::Link => {}
        Judged::Echo => seen.echoes += 1,
        Judged::Name => seen.names += 1,
        Judged::Promised(source) => *seen.promised.entry(source).or_default() += 1,
        Judged::Stray(what) => {
            seen.strays += 1;
            if seen.strays_told.len() < TOLD_MAX {
                seen.strays_told.insert(what);
            }
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
