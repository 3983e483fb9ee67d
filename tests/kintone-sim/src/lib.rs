//! A faithful kintone for tests, `make run` and laboratories.
//!
//! It speaks HTTPS as the hosts under cybozu.com, kintone.com and cybozu.cn do: the same edge (unknown accounts, address
//! restriction, maintenance), the same admission of simultaneous requests with its headers and its refusal, the same errors and
//! the everyday endpoints of the REST API. Around that it has what a test needs: exact figures of how many requests were in
//! process ([`Accounting`]), a book of every request and socket ([`Ledger`]), knobs that turn while it runs
//! ([`TenantSettings`]) and faults ([`Fault`]).
//!
//! # Layout
//! `server` accepts and drives connections: `tcp`, `tls`, and `tap` under hyper, which obeys `wire`; `call` is the life of one request,
//! recorded by its `visit`; `tenant` holds an account: `admission` counts, `store` has the data, `api` works on it.
//!
//! # What it does not know
//! HTTP/2, client certificates, processes, permissions of users, lookups, and the waiting of concurrent cursor creations for each other.

mod admission;
mod answer;
mod api;
mod app;
mod body;
mod call;
mod control;
mod cursors;
mod cut;
mod draw;
mod error;
mod fault;
mod head;
mod ledger;
mod multipart;
mod server;
mod store;
mod tap;
mod tcp;
mod tenant;
mod tls;
mod visit;
mod wire;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;

pub use admission::{Accounting, Step};
pub use app::{AppSettings, Field, Right, Token};
pub use fault::{Fault, FaultKind};
pub use ledger::{Execution, Keep, Ledger, Socket, Stamp, Totals};
pub use tenant::{
    AdmissionOrder, DeniedAnswer, ErrorStyle, Latency, Maintenance, TenantSettings,
    WhenClientLeaves,
};
pub use tls::Authority;

use crate::tls::Certificates;
use crate::world::World;

/// How a simulator is started.
#[derive(Debug)]
pub struct Options {
    /// Where it listens for HTTPS; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where it listens for HTTP to control it; `None`: nowhere.
    pub control: Option<SocketAddr>,
    /// The authority of its certificates; `None`: a new one, in memory.
    pub ca: Option<Authority>,
    /// How much of the past it keeps.
    pub keep: Keep,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            control: None,
            ca: None,
            keep: Keep::default(),
        }
    }
}

/// A running simulator, on the tokio runtime it was started on. Dropping it stops it and all its connections.
pub struct Sim {
    world: Arc<World>,
    addr: SocketAddr,
    control_addr: Option<SocketAddr>,
    ca_pem: String,
}

impl Sim {
    /// Starts one. It has no accounts yet: see [`Sim::tenant`].
    ///
    /// # Errors
    /// When an address cannot be listened on, or no certificate can be made.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let authority = match options.ca {
            Some(authority) => authority,
            None => Authority::generate()?,
        };
        let world = Arc::new(World::new(Certificates::new(&authority)?, options.keep));
        let listener = bind(options.listen).await?;
        let addr = listener.local_addr()?;
        let mut control_addr = None;
        if let Some(control) = options.control {
            let control = bind(control).await?;
            control_addr = Some(control.local_addr()?);
            tokio::spawn(control::accept(control, Arc::clone(&world)));
        }
        tokio::spawn(server::accept(listener, Arc::clone(&world)));
        Ok(Self {
            world,
            addr,
            control_addr,
            ca_pem: authority.pem().to_owned(),
        })
    }

    /// Where it listens for HTTPS.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens for control.
    pub fn control_addr(&self) -> Option<SocketAddr> {
        self.control_addr
    }

    /// The certificate of its authority, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Creates an account, for example `acme.cybozu.com`, or replaces it with an empty one.
    pub fn tenant(&self, domain: &str, settings: TenantSettings) {
        self.world.put(domain, settings);
    }

    /// Turns knobs of an account. One that does not exist is created with [`TenantSettings::default`] first.
    pub fn update(&self, domain: &str, change: impl FnOnce(&mut TenantSettings)) {
        self.world.tenant_or_new(domain).update(change);
    }

    /// Arms a fault, after those that are armed.
    pub fn fault(&self, fault: Fault) {
        self.world.faults.arm(fault);
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.world.faults.clear();
    }

    /// What has happened.
    pub fn ledger(&self) -> Ledger {
        self.world.book.snapshot()
    }

    /// The exact figures of an account. One that does not exist is created with [`TenantSettings::default`] first.
    pub fn accounting(&self, domain: &str) -> Accounting {
        self.world.tenant_or_new(domain).accounting()
    }

    /// The records of an account's app as kintone shows them, oldest first; empty when there is no such app. An account that does
    /// not exist is created with [`TenantSettings::default`] first.
    pub fn records(&self, domain: &str, app: u64) -> Vec<serde_json::Value> {
        self.world.tenant_or_new(domain).records(app)
    }

    /// The content of a file of an account, by the key of its upload or of a record; `None` when there is none or it was too large to
    /// keep.
    pub fn file(&self, domain: &str, key: &str) -> Option<bytes::Bytes> {
        self.world.tenant_or_new(domain).file(key)
    }

    /// Begins the figures of an account anew, at what is in process.
    pub fn restart_accounting(&self, domain: &str) {
        self.world.tenant_or_new(domain).restart_accounting();
    }

    /// The SHA-256, hex, of the file that the key `synthetic-<bytes>` downloads.
    pub fn synthetic_sha256(bytes: u64) -> String {
        answer::synthetic_sha256(bytes)
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.world.stop.cancel();
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}
