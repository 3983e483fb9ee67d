//! One of the other hosts: its connections, and whether it is to be tried.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::failure::Unreached;
use super::health::Health;
use super::place::Idle;
use crate::config::Peer;
use crate::tls::PeerTls;

/// What a reload may change.
pub(super) struct Terms {
    pub(super) tls: PeerTls,
    pub(super) connect_timeout: Duration,
    pub(super) idle: Duration,
    pub(super) connections: usize,
}

/// One of the other hosts.
pub(super) struct Other<B> {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    /// Connections that there are, idle ones included.
    pub(super) open: Arc<AtomicUsize>,
    pub(super) state: Mutex<State<B>>,
}

pub(super) struct State<B> {
    /// The latest at the end.
    pub(super) idle: Vec<Idle<B>>,
    pub(super) health: Health,
}

impl<B> Other<B> {
    pub(super) fn state(&self) -> MutexGuard<'_, State<B>> {
        // Every change under the lock is a plain assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of how an attempt to connect ended; a change is told once.
    pub(super) fn note(&self, failure: Option<&Unreached>) {
        let now = Instant::now();
        let host = &self.name;
        let changed = {
            let health = &mut self.state().health;
            let was_up = health.is_up();
            match failure {
                None => *health = Health::default(),
                Some(_) => health.failed(now),
            }
            was_up != health.is_up()
        };
        match failure {
            Some(error) if changed => {
                tracing::warn!(peer = %host, %error, "calls cannot be handed to another host");
            }
            None if changed => {
                tracing::info!(peer = %host, "calls can be handed to the other host again");
            }
            Some(_) | None => {}
        }
    }
}

impl<B> Default for State<B> {
    fn default() -> Self {
        Self {
            idle: Vec::new(),
            health: Health::default(),
        }
    }
}

impl Terms {
    pub(super) const fn new(peer: &Peer, tls: PeerTls) -> Self {
        Self {
            tls,
            connect_timeout: peer.connect_timeout,
            idle: peer.idle,
            connections: peer.connections,
        }
    }
}
