//! What a ledger looks like at one instant, for metrics and pages.

use std::time::Duration;

use crate::fleet::moment::Moment;
use crate::fleet::row::{Members, Stamp};
use crate::model::Account;

use super::entry::{Entry, Life};
use super::standing::Access;
use super::state::Ledger;

/// A ledger at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// This host.
    pub host: String,
    /// Its last beat.
    pub stamp: Stamp,
    /// Whether it takes its part.
    pub access: Access,
    /// For how long it takes nothing because nobody knows what an earlier start has lent.
    pub doubt: Option<Duration>,
    /// The newest word about evictions that it knows.
    pub members: Members,
    /// Whether it has the whole part that this leaves it.
    pub is_in_force: bool,
    /// The other hosts, in order.
    pub peers: Vec<PeerView>,
    /// The accounts in which something is lent, borrowed or wanted, in order.
    pub accounts: Vec<AccountView>,
}

/// Another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// Its name.
    pub host: String,
    /// Its newest row; zero: none came.
    pub stamp: Stamp,
    /// How long ago that came.
    pub age: Option<Duration>,
    /// Whether it is evicted.
    pub is_evicted: bool,
    /// Whether it has answered this start.
    pub has_answered: bool,
    /// Whether it has another list of hosts.
    pub has_other_hosts: bool,
    /// The accounts for which it has another limit, as far as it speaks of them.
    pub other_limits: Vec<Account>,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// Which.
    pub account: Account,
    /// The permits that all hosts share.
    pub total: u32,
    /// This host's part of them.
    pub part: u32,
    /// What it may use of that now.
    pub own: u32,
    /// What it has lent to others that can use it.
    pub lent: u32,
    /// What it may use of others' now.
    pub borrowed: u32,
    /// What it has lent that nobody can use: it comes back by itself.
    pub stranded: u32,
    /// Its own permits and what it has not given back of others', used up or not: as many as can be in
    /// use.
    pub covered: u32,
    /// Permits in use at the last beat.
    pub in_use: u32,
    /// Permits that waiting calls wanted at the last beat.
    pub queued: u32,
}

impl Ledger {
    /// What it looks like now.
    #[must_use]
    pub fn view(&self, now: Moment) -> View {
        let accounts = self.accounts.iter();
        View {
            host: self.standing.me.clone(),
            stamp: self.stamp,
            access: self.standing.access,
            doubt: self.doubt.map(|doubt| doubt.back_at.since(now)),
            members: self.standing.known.clone(),
            is_in_force: self.standing.used == self.standing.known,
            peers: self
                .others()
                .map(|host| self.peer_view(host, now))
                .collect(),
            accounts: accounts
                .map(|(account, entry)| account_view(account, entry, now))
                .collect(),
        }
    }

    fn peer_view(&self, host: usize, now: Moment) -> PeerView {
        let peer = &self.peers[host];
        let row = peer.row.as_ref();
        let rows = row.map_or(&[][..], |row| &row.accounts);
        let differs = rows.iter().filter(|row| {
            let entry = self.accounts.get(&row.account);
            entry.is_some_and(|entry| entry.mine != row.total)
        });
        PeerView {
            host: self.standing.hosts[host].clone(),
            stamp: peer.seen,
            age: peer.heard_at.map(|at| now.since(at)),
            is_evicted: self.standing.is_evicted(host),
            has_answered: self.has_answered(host),
            has_other_hosts: row.is_some_and(|row| row.hosts != self.standing.hosts),
            other_limits: differs.map(|row| row.account.clone()).collect(),
        }
    }
}

fn account_view(account: &Account, entry: &Entry, now: Moment) -> AccountView {
    let is_living = |life: Life, ends_by: Moment| life == Life::Living && now < ends_by;
    let living = entry.lent.iter();
    let living = living.filter(|loan| is_living(loan.life, loan.ends_by));
    let lent = living.map(|loan| loan.permits).sum();
    AccountView {
        account: account.clone(),
        total: entry.total,
        part: entry.part,
        own: entry.own(),
        lent,
        borrowed: entry.borrowed(now),
        stranded: entry.away() - lent,
        covered: entry.own() + entry.listed_now(now),
        in_use: entry.usage.in_use,
        queued: entry.usage.queued,
    }
}
