//! A row of another host comes in.

use std::sync::Arc;

use crate::fleet::moment::Moment;
use crate::fleet::row::{LOANS_MAX, Members, Row, Stamp};

use super::entry::{Held, Life};
use super::rules::Rule;
use super::standing::Access;
use super::state::Ledger;
use super::terms::Terms;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It was taken into account.
    New,
    /// It was already, or a later one.
    Old,
    /// It is of no host of this configuration.
    Stranger,
    /// Its host has another list of hosts: nothing is lent or borrowed, and the smallest part counts.
    OtherHosts,
    /// It is this host's own.
    Own,
    /// It is of a process that has this host's name and began later: this one starts no more calls
    /// ([`Access::Superseded`]) and should end.
    Twin,
    /// It is of an earlier process of this host's name: dead if there is one gateway to a host.
    Earlier,
}

/// Beats that are remembered: those of a loan's time, at the quickest pace of one every 20 ms.
pub(super) const BEATS_MAX: usize = 2_048;

impl Ledger {
    /// Takes a row into account, that of this host too. Rows may come in any order and any number of
    /// times; `now` is read after this one came.
    pub fn hear(&mut self, now: Moment, row: &Row) -> Heard {
        if row.host == self.standing.me {
            return self.hear_own(now, row);
        }
        let hosts = &self.standing.hosts;
        let Some(host) = hosts.iter().position(|other| *other == row.host) else {
            return Heard::Stranger;
        };
        let is_newer = row.stamp > self.peers[host].seen;
        if !is_newer && self.rules.hold(Rule::InOrder) {
            return Heard::Old;
        }
        self.learn(&row.members);
        if row.hosts != self.standing.hosts {
            self.differ(host, now, row);
            return Heard::OtherHosts;
        }
        self.read_lent(host, row, now);
        self.read_held(host, row, now);
        let peer = &mut self.peers[host];
        peer.seen = row.stamp;
        peer.heard_at = Some(now);
        peer.row = Some(Arc::new(row.clone()));
        self.compare_lists();
        Heard::New
    }

    /// Takes the word of an operator into account: the greatest holds.
    pub fn learn(&mut self, members: &Members) {
        self.standing.learn(members);
    }

    fn hear_own(&mut self, now: Moment, row: &Row) -> Heard {
        if row.process == self.process {
            return Heard::Own;
        }
        let theirs = (row.stamp.incarnation, row.process);
        if theirs > (self.stamp.incarnation, self.process) {
            self.standing.access = Access::Superseded;
            return Heard::Twin;
        }
        // What it had lent stays away, if it was not kept: later on, the row may be any old one.
        if self.stamp.beat == 0 {
            self.learn(&row.members);
            for account in &row.accounts {
                let permits = account.lent.iter().map(|loan| loan.permits).sum();
                self.inherit_account(&account.account, permits, now);
            }
        }
        Heard::Earlier
    }

    /// A host with another list of hosts: it is alive, and that is all.
    fn differ(&mut self, host: usize, now: Moment, row: &Row) {
        let peer = &mut self.peers[host];
        peer.seen = row.stamp;
        peer.heard_at = Some(now);
        // Without accounts and answers: its places are others.
        peer.row = Some(Arc::new(Row {
            accounts: Vec::new(),
            seen: Vec::new(),
            ..row.clone()
        }));
        self.compare_lists();
    }

    fn compare_lists(&mut self) {
        if !self.rules.hold(Rule::SmallestPart) {
            return;
        }
        let mine = &self.standing.hosts;
        let lists = self.peers.iter().filter_map(|peer| peer.row.as_ref());
        let lists = lists.map(|row| &row.hosts).filter(|hosts| *hosts != mine);
        let mut others: Vec<_> = lists.cloned().collect();
        others.sort();
        others.dedup();
        self.standing.others = others;
    }

    /// What the row's host lends to this one.
    fn read_lent(&mut self, lender: usize, row: &Row, now: Moment) {
        let numbered = self.peers[lender].numbered;
        let known = match numbered.incarnation == row.stamp.incarnation {
            true => numbered.beat,
            false => 0,
        };
        let mut last = known;
        let mut count: usize = self.accounts.values().map(|entry| entry.held.len()).sum();
        for account in &row.accounts {
            for loan in &account.lent {
                last = last.max(loan.number);
                let is_mine = usize::from(loan.to) == self.me
                    && (loan.to_incarnation == self.stamp.incarnation
                        || !self.rules.hold(Rule::OwnStart));
                if !is_mine {
                    continue;
                }
                let until = self.end_of(loan.as_of, now);
                let incarnation = row.stamp.incarnation;
                let entry = self.accounts.get_mut(&account.account);
                let held = entry.and_then(|entry| {
                    let mut held = entry.held.iter_mut();
                    held.find(|held| held.is(lender, incarnation, loan.number))
                });
                if let Some(held) = held {
                    held.until = until.map_or(held.until, |until| until.max(held.until));
                    held.recalled = loan.recalled;
                    continue;
                }
                let is_new = loan.number > known || !self.rules.hold(Rule::TakeOnce);
                let Some(until) = until.filter(|until| is_new && now < *until) else {
                    continue;
                };
                let may_borrow = count < LOANS_MAX && self.standing.access == Access::Open;
                if may_borrow && loan.permits > 0 {
                    count += 1;
                    let entry = self.accounts.entry(account.account.clone()).or_default();
                    entry.needed_at = now;
                    entry.held.push(Held {
                        lender,
                        incarnation,
                        number: loan.number,
                        permits: loan.permits,
                        usable: 0,
                        recalled: loan.recalled,
                        until,
                    });
                }
            }
        }
        self.peers[lender].numbered = Stamp {
            incarnation: row.stamp.incarnation,
            beat: last,
        };
        self.end_earlier_loans(lender, row.stamp.incarnation);
    }

    /// A lender that has started again wants all back that it had lent.
    fn end_earlier_loans(&mut self, lender: usize, incarnation: u64) {
        for entry in self.accounts.values_mut() {
            let held = entry.held.iter_mut();
            for held in held.filter(|held| held.lender == lender) {
                if held.incarnation < incarnation {
                    held.recalled = held.permits;
                }
            }
        }
    }

    /// When a loan ends that is counted from one of this host's beats.
    fn end_of(&self, as_of: u64, now: Moment) -> Option<Moment> {
        if !self.rules.hold(Rule::CountFromBeat) {
            return Some(now.after(self.terms.loan));
        }
        let ago = self.stamp.beat.checked_sub(as_of)?;
        let back = self.beats.len().checked_sub(1)? as u64;
        let Some(index) = back.checked_sub(ago) else {
            let is_lax = !self.rules.hold(Rule::KnowBeat);
            return is_lax.then(|| now.after(self.terms.loan));
        };
        let beat = self.beats.get(usize::try_from(index).ok()?)?;
        Some(beat.after(self.terms.loan))
    }

    /// What the row's host says of loans that this one made.
    fn read_held(&mut self, borrower: usize, row: &Row, now: Moment) {
        let seen = row.seen.get(self.me).copied().unwrap_or_default();
        let (rules, me) = (self.rules, self.stamp.incarnation);
        let Terms { loan, margin, .. } = self.terms;
        let ends_by = now.after(self.span(loan));
        let back_at = now.after(self.span(loan + self.tail()));
        let orphan_back_at = now.after(self.span(self.terms.tail()));
        for (account, entry) in &mut self.accounts {
            let held = row.account(account).map_or(&[][..], |row| &row.held);
            entry.lent.retain_mut(|lent| {
                if lent.to != borrower {
                    return true;
                }
                if row.stamp.incarnation > lent.to_incarnation {
                    lent.life = Life::Dead;
                    lent.ends_by = lent.ends_by.min(now.after(margin));
                    lent.back_at = lent.back_at.min(orphan_back_at);
                    return rules.hold(Rule::AwaitOrphans);
                }
                let listed = held.iter().find(|held| {
                    usize::from(held.lender) == self.me
                        && held.incarnation == me
                        && held.number == lent.number
                });
                let Some(listed) = listed else {
                    let is_seen = seen
                        >= Stamp {
                            incarnation: me,
                            beat: lent.born,
                        };
                    return !is_seen && rules.hold(Rule::SeenFirst);
                };
                lent.permits = lent.permits.min(listed.permits);
                lent.recalled = lent.recalled.min(lent.permits);
                if lent.life == Life::Living || !rules.hold(Rule::StayDead) {
                    lent.as_of = lent.as_of.max(row.stamp.beat);
                    lent.ends_by = lent.ends_by.max(ends_by);
                    lent.back_at = lent.back_at.max(back_at);
                }
                lent.permits > 0
            });
        }
    }
}
