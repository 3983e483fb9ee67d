//! What the admin listener knows of the gateway.

use std::sync::Arc;

use jiff::civil::Date;
use tokio::sync::mpsc;

use super::fleet::FleetOrder;
use super::notify::{Decision, HeldMails};
use super::order::Command;
use super::ports::PortCount;
use super::readiness::{AskAcceptance, AskAddress};
use crate::config::{QuotaSettings, Secret};
use crate::kintone::day::Day;
use crate::model::Account;
use crate::published::evidence::FleetStatement;
use crate::quota::{ArchiveError, DayRow};
use crate::telemetry::{
    AccountView, AddressView, AppTodayView, Balance, FleetView, MailView, PublishedView, Telemetry,
    Views,
};

/// A question to the rest of the gateway. It must answer without waiting.
pub type Ask<T> = Box<dyn Fn() -> T + Send + Sync>;

/// The same about one account, by its domain in lower case.
pub type AskAccount = Box<dyn Fn(&str) -> Option<AccountView> + Send + Sync>;

/// What the configuration says about an account.
pub type AskQuota = Box<dyn Fn(&Account) -> QuotaSettings + Send + Sync>;

/// An order about another host, carried out at once.
pub type OrderFleet = Box<dyn Fn(&FleetOrder) -> Result<(), String> + Send + Sync>;
/// A decision about the mails held of a cause; how many those were. It may wait for the disk.
pub type DecideMails = Arc<dyn Fn(&str, Decision) -> usize + Send + Sync>;
/// What is known of the connections of an account, by its domain in lower case, on a day; or why it
/// is not. It may wait for the disk.
pub type AskEvidence = Arc<dyn Fn(&str, Date) -> Result<FleetStatement, String> + Send + Sync>;
/// What was counted for an account, by its domain in lower case, from the first of these days to the
/// second. It may wait for the disk.
pub type AskDays = Box<dyn Fn(&str, Day, Day) -> Result<Vec<DayRow>, ArchiveError> + Send + Sync>;

/// Where the answers of the admin listener come from.
pub struct Admin {
    /// Metrics, live calls, failures.
    pub telemetry: Arc<Telemetry>,
    /// The accounts in use.
    pub accounts: Ask<Vec<AccountView>>,
    /// One of them, or one that is configured or known.
    pub account: AskAccount,
    /// The limits that the configuration in force sets for an account.
    pub quota: AskQuota,
    /// Today's calls by app, of all accounts.
    pub apps_today: Ask<Vec<AppTodayView>>,
    /// The day that calls are counted for.
    pub today: Ask<Day>,
    /// The calls of the days.
    pub days: AskDays,
    /// The addresses with a bind on this host.
    pub addresses: Ask<Vec<AddressView>>,
    /// The permits of all accounts, read at one instant.
    pub balance: Ask<Balance>,
    /// An account's connections on a day.
    pub evidence: AskEvidence,
    /// Which accounts take a published address.
    pub address_report: AskAddress,
    /// Which published addresses an account takes.
    pub acceptance: AskAcceptance,
    /// Whether calls should be sent here.
    pub readiness: Ask<Readiness>,
    /// The published list, counted.
    pub published: Ask<PublishedView>,
    /// Whether this host is out of rotation or shutting down.
    pub draining: Ask<bool>,
    /// How it stands in its fleet.
    pub fleet: Ask<FleetView>,
    /// Mails to people, counted.
    pub mail: Ask<MailView>,
    /// The mails held, by cause.
    pub held_mails: Ask<Vec<HeldMails>>,
    /// Carries out what operators decide about the mails held of a cause; how many those were.
    pub decide_mails: DecideMails,
    /// Carries out an order about another host; the fault if it is refused.
    pub order_fleet: OrderFleet,
    /// The configuration in force, secrets as `***`.
    pub config_json: Ask<serde_json::Value>,
    /// `[admin] token` in force.
    pub token: Ask<Option<Secret>>,
    /// Names of this host that a `Host` header may give, lower case; IP literals and `localhost`
    /// are always understood.
    pub own_names: Vec<String>,
    /// The program's version.
    pub version: &'static str,
    /// Where orders go.
    pub commands: mpsc::Sender<Command>,
    /// Counts local ports.
    pub ports: PortCount,
}

/// Whether calls should be sent to this host: yes, when there is no reason against it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why not, in words such as `no usable address` or `draining`.
    pub reasons: Vec<String>,
    /// What operators should know although calls can be sent here.
    pub warnings: Vec<String>,
}

impl Admin {
    /// All figures of this moment.
    #[must_use]
    pub fn views(&self) -> Views {
        let addresses = (self.addresses)();
        Views {
            accounts: (self.accounts)(),
            local_ports: self.ports.count(&addresses),
            local_ports_limit: self.ports.limit(),
            addresses,
            balance: (self.balance)(),
            apps_today: (self.apps_today)(),
            published: (self.published)(),
            draining: (self.draining)(),
            fleet: Some((self.fleet)()),
            mail: (self.mail)(),
        }
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}
