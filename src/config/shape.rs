//! What the rest of the program sees of the configuration. It is immutable: a reload makes a new
//! [`Config`].

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use jiff::civil::Date;

use crate::model::{Account, Bind, HostName, Published};

use super::acceptance::Acceptance;
use super::circuit::Circuit;
use super::grant::{AccountSettings, Callers, NamePattern, QuotaSettings};
use super::inspect::Inspect;
use super::notify::Notify;
use super::peer::Peer;
use super::secret::Secret;
use super::store::{Exchange, StoreUrl};
use super::verify::Verify;

/// Everything the operator decided.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where we listen.
    pub listen: Listen,
    /// The published list, in the order of the file.
    pub addresses: Vec<EgressAddress>,
    /// How slowly that list may change.
    pub notice: Notice,
    /// `[public]`.
    pub public: Public,
    /// `[evidence]`.
    pub evidence: Evidence,
    /// `[acceptance]`.
    pub acceptance: Acceptance,
    /// How kintone is reached.
    pub upstream: Upstream,
    /// Who may call.
    pub callers: Callers,
    /// The limits of every account without a table of its own.
    pub quota: QuotaSettings,
    /// The accounts that have a table of their own.
    pub accounts: BTreeMap<Account, AccountSettings>,
    /// When calls to an account stop before kintone.
    pub circuit: Circuit,
    /// `[inspect]`; `None` is off.
    pub inspect: Option<Inspect>,
    /// What callers may use up here.
    pub limits: Limits,
    /// The hosts among which quotas are shared.
    pub fleet: Fleet,
    /// `[verify]`; `None` is off.
    pub verify: Option<Verify>,
    /// `[notify]`; `None` is off.
    pub notify: Option<Notify>,
    /// `[admin]`.
    pub admin: Admin,
    /// The state directory.
    pub state_dir: PathBuf,
    /// `[log]`.
    pub log: Log,
    /// `[drain]`.
    pub drain: Drain,
    /// SHA-256 of the file's bytes in hexadecimal: the label of `config_info`.
    pub hash: String,
}

/// Listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Forward proxy for callers, plain HTTP/1.1.
    pub proxy: Vec<SocketAddr>,
    /// Metrics, health, API: for operators only.
    pub admin: SocketAddr,
    /// Read-only `/metrics`, `/healthz`, `/readyz`.
    pub metrics: Option<SocketAddr>,
    /// The customers' page and feeds.
    pub public: Option<SocketAddr>,
    /// The proxy over TLS.
    pub proxy_tls: Vec<SocketAddr>,
    /// `[listen.tls]`.
    pub tls: Option<ListenTls>,
}

/// Files for `proxy_tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// The CA of callers' certificates, PEM.
    pub client_ca: Option<PathBuf>,
}

/// One line of the published list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressAddress {
    /// What customers see.
    pub published: Published,
    /// What this host binds; `None`: another host's, published here but never used.
    pub bind: Option<Bind>,
    /// The other hosts that bind it, in the order of `[fleet] hosts`.
    pub elsewhere: Vec<HostName>,
    /// Whether it is used.
    pub state: AddressState,
    /// First day of use, 00:00 JST.
    pub valid_from: Option<Date>,
    /// First day without use, 00:00 JST.
    pub retire_after: Option<Date>,
}

/// The life of a published address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressState {
    /// Announced, not used yet.
    Planned,
    /// In use.
    Active,
    /// Announced to go, not used any more.
    Retiring,
}

/// How slowly the published list changes, in days of 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// How long an address is on the list before it is used.
    pub minimum_days: u16,
    /// How long it stays on the list, retiring, after its use.
    pub overlap_days: u16,
}

/// `[public]`: what the customers' page says of whose it is, and what it may use up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    /// The service as customers know it; `None`: it is not named.
    pub service: Option<String>,
    /// Whom customers ask.
    pub contact: Option<String>,
    /// Where customers find the page: a URL that ends in `/`.
    pub url: Option<String>,
    /// Connections served at once.
    pub connections: usize,
}

/// `[evidence]`: how much is kept of where connections left from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// For how many days, besides today.
    pub keep_days: u16,
    /// For how many accounts a day.
    pub accounts: usize,
}

/// How kintone is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Zones below which accounts live, lower case, no dots at the ends.
    pub zones: Vec<String>,
    /// Which accounts may be reached.
    pub accounts: AccountPolicy,
    /// Extra trust anchors, PEM.
    pub ca_file: Option<PathBuf>,
    /// Networks that destinations may resolve to although they are not global.
    pub allow_networks: Vec<Ipv4Net>,
    /// DNS, connect and TLS together.
    pub connect_timeout: Duration,
    /// Longest silence while kintone owes an answer or its next piece.
    pub response_timeout: Duration,
    /// How long a connection waits in the pool.
    pub pool_idle: Duration,
    /// How long a connection carries calls.
    pub pool_life: Duration,
    /// Idle connections kept per host name and bind address.
    pub pool_per_host: usize,
    /// Idle connections kept in all.
    pub pool_total: usize,
    /// A request body up to this size, in bytes, is kept until the answer's head has come.
    pub replay: usize,
    /// Static answers.
    pub resolve: Vec<StaticAnswer>,
}

/// `accounts` of `[upstream]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountPolicy {
    /// Any account of an allowed zone.
    Any,
    /// Only those with a table.
    Configured,
}

/// One line of `[upstream.resolve]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticAnswer {
    /// The names it answers for.
    pub pattern: NamePattern,
    /// The address it gives.
    pub address: Ipv4Addr,
    /// The port to connect to instead of 443.
    pub port: Option<u16>,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Callers' connections.
    pub connections: usize,
    /// Callers' connections from one network address.
    pub connections_per_network_address: usize,
    /// Bytes of a request head.
    pub head_size: usize,
    /// Time for a request head.
    pub head_timeout: Duration,
    /// Time for a TLS handshake or a tunnel's ClientHello.
    pub handshake_timeout: Duration,
    /// Keep-alive between calls.
    pub caller_idle: Duration,
    /// No progress of a body because of the caller.
    pub stall_timeout: Duration,
    /// Calls at once on one HTTP/2 connection of a caller.
    pub h2_streams: u32,
    /// Accounts with metric series of their own.
    pub account_series: usize,
}

/// `[fleet]`, or this host alone.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// This host's name.
    pub host: String,
    /// All hosts, this one among them.
    pub hosts: Vec<String>,
    /// Redis or Valkey; `None`: nothing is lent, each host keeps its fixed part.
    pub redis: Option<StoreUrl>,
    /// How it is used.
    pub exchange: Exchange,
    /// `[fleet.peer]`; `None`: no call is handed to another host.
    pub peer: Option<Peer>,
}

/// Language of texts for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Japanese first, English below.
    Ja,
    /// English only.
    En,
}

/// `[admin]`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Bearer token for every POST and DELETE.
    pub token: Option<Secret>,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Filter directives of `tracing`.
    pub level: String,
    /// Where the access log goes.
    pub access: AccessLog,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// A file, reopened on SIGUSR1.
    File(PathBuf),
}

/// `[drain]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// How long it is announced while calls are still taken.
    pub announce: Duration,
    /// How long running calls may go on.
    pub grace: Duration,
}

impl AddressState {
    /// Every state, each at the place of its number.
    pub const ALL: [Self; 3] = [Self::Planned, Self::Active, Self::Retiring];

    /// The word of the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Active => "active",
            Self::Retiring => "retiring",
        }
    }
}

impl Config {
    /// The limits of `account`: its own table's, or everybody's.
    #[must_use]
    pub fn quota_of(&self, account: &Account) -> &QuotaSettings {
        self.accounts
            .get(account)
            .map_or(&self.quota, |settings| &settings.quota)
    }
}

impl Config {
    /// The published addresses that `account` is known to accept; none where nothing is known.
    #[must_use]
    pub fn accepted_by(&self, account: &Account) -> &[Published] {
        let settings = self.accounts.get(account);
        settings.map_or(&[], |settings| settings.accepts.as_slice())
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            access: AccessLog::Stdout,
        }
    }
}

impl EgressAddress {
    /// Whether somebody behind this host has to translate it, so that the host itself cannot know as which
    /// address it leaves; of those that are in use or will be.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        let differs = self.bind.is_some_and(|bind| bind.0 != self.published.0);
        differs && self.state != AddressState::Retiring
    }
}

impl Default for Notice {
    fn default() -> Self {
        Self {
            minimum_days: 30,
            overlap_days: 90,
        }
    }
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            keep_days: 100,
            accounts: 20_000,
        }
    }
}

impl Default for Public {
    fn default() -> Self {
        Self {
            service: None,
            contact: None,
            url: None,
            connections: 256,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_network_address: 4_000,
            head_size: 64 << 10,
            head_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            caller_idle: Duration::from_secs(120),
            stall_timeout: Duration::from_secs(60),
            h2_streams: 100,
            account_series: 1000,
        }
    }
}
