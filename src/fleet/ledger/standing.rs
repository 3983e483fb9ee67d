//! What part of every account is this host's: the hosts of the configuration, the evicted among them,
//! and what the others say of both.

use crate::fleet::row::{HOSTS_MAX, Members};
use crate::fleet::share::{Part, Split};

/// Whether this host takes its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// It does.
    Open,
    /// Not until every host that is not evicted has answered this start of it: it may have been
    /// evicted, or the others do not know it yet.
    Unproven,
    /// Not any more: a later process has its name.
    Superseded,
}

/// Which part is whose.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Standing {
    pub(super) me: String,
    /// All hosts, in order.
    pub(super) hosts: Vec<String>,
    /// The hosts that an earlier start of this one shared with, if they were others.
    pub(super) earlier: Option<Vec<String>>,
    /// Other hosts' lists, where they differ.
    pub(super) others: Vec<Vec<String>>,
    /// The members whose part this host has in full.
    pub(super) used: Members,
    /// The newest members that it knows: it never has more than they leave.
    pub(super) known: Members,
    pub(super) access: Access,
}

impl Standing {
    /// The part of this host now.
    pub(super) fn part(&self) -> Part {
        let mut splits = Vec::new();
        let lists = [&self.hosts].into_iter();
        for hosts in lists.chain(&self.earlier).chain(&self.others) {
            for members in [&self.used, &self.known] {
                let split = split(hosts, members, &self.me);
                if !splits.contains(&split) {
                    splits.push(split);
                }
            }
        }
        Part {
            splits,
            is_closed: self.access != Access::Open,
        }
    }

    /// What another host's part would be.
    pub(super) fn part_of(&self, host: usize, total: u32) -> u32 {
        split(&self.hosts, &self.known, &self.hosts[host]).of(total)
    }

    /// Whether a host is evicted, by the newest word.
    pub(super) fn is_evicted(&self, host: usize) -> bool {
        self.known.evicted.contains(&self.hosts[host])
    }

    /// Takes the word of an operator, if it is newer; tells whether it was.
    pub(super) fn learn(&mut self, members: &Members) -> bool {
        let is_new = *members > self.known;
        if is_new {
            self.known.clone_from(members);
        }
        is_new
    }
}

/// How a host's part is cut from a list of hosts. One that is not in it has none.
fn split(hosts: &[String], members: &Members, host: &str) -> Split {
    let hosts = &hosts[..hosts.len().min(HOSTS_MAX)];
    let position = |name: &str| hosts.iter().position(|host| host == name);
    let evicted = members.evicted.iter().filter_map(|name| position(name));
    Split {
        hosts: hosts.len() as u8,
        index: position(host).unwrap_or(HOSTS_MAX) as u8,
        evicted: evicted.fold(0, |set, host| set | 1 << host),
    }
}
