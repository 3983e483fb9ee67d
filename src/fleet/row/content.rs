//! What a row says.

use crate::fleet::code::CodeError;
use crate::model::Account;

use super::code;

/// A host's row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Row {
    /// Whose it is.
    pub host: String,
    /// Which process wrote it: a random number. Two that live with one host's name differ in it.
    pub process: u64,
    /// When it was written.
    pub stamp: Stamp,
    /// All hosts by its configuration, in order.
    pub hosts: Vec<String>,
    /// The newest word about evictions that it knows.
    pub members: Members,
    /// Whether it uses no more than `hosts` and `members` leave it.
    pub is_settled: bool,
    /// The newest row of each of `hosts` that it has taken into account; zero: none.
    pub seen: Vec<Stamp>,
    /// What it has to say of accounts, in their order.
    pub accounts: Vec<AccountRow>,
}

/// When a row was written: by which start of the host, and in which of its beats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Greater for each start of a host; at least 1.
    pub incarnation: u64,
    /// Greater for each row of that start; at least 1.
    pub beat: u64,
}

/// Which hosts are evicted: an operator has said that they do not run, and the others have their
/// part. Of two that differ the greater one holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Members {
    /// Greater for each word of an operator; 0: none was said.
    pub version: u64,
    /// The evicted hosts, in order.
    pub evicted: Vec<String>,
}

/// What a host says of one account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountRow {
    /// Which.
    pub account: Account,
    /// The permits that all hosts share by its configuration.
    pub total: u32,
    /// Those on which it may start calls now.
    pub usable: u32,
    /// Those in use.
    pub in_use: u32,
    /// Those that its waiting calls want.
    pub queued: u32,
    /// Its tenants: what they use and want. The last one may be the sum of many.
    pub tenants: Vec<TenantRow>,
    /// What it has lent.
    pub lent: Vec<LentRow>,
    /// What it has borrowed, and has not wholly given back.
    pub held: Vec<HeldRow>,
}

/// What a tenant uses and wants on one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TenantRow {
    /// Who it is: a hash of its name.
    pub id: u32,
    /// Its weight.
    pub weight: u32,
    /// Permits in use, and those that waiting calls want.
    pub demand: u32,
}

/// A loan, as its lender tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LentRow {
    /// Its number, by this start of the lender.
    pub number: u64,
    /// To which of the row's hosts.
    pub to: u8,
    /// To which start of it.
    pub to_incarnation: u64,
    /// How many permits.
    pub permits: u32,
    /// How many of them the lender wants back.
    pub recalled: u32,
    /// The beat of the borrower that the loan's time is counted from.
    pub as_of: u64,
}

/// A loan, as its borrower tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeldRow {
    /// From which of the row's hosts.
    pub lender: u8,
    /// From which start of it.
    pub incarnation: u64,
    /// Its number.
    pub number: u64,
    /// How many of its permits are not given back.
    pub permits: u32,
}

/// Hosts of a fleet, at most.
pub const HOSTS_MAX: usize = 64;
/// Longest row, in bytes.
pub const ROW_BYTES_MAX: usize = 512 * 1024;
/// Accounts in a row, at most.
pub const ACCOUNTS_MAX: usize = 2_000;
/// Tenants of an account in a row, at most; the last one is the sum of the rest.
pub const TENANTS_MAX: usize = 16;
/// Loans of one kind in a row, at most: no more are made or taken.
pub const LOANS_MAX: usize = 4_000;

impl Row {
    /// What it says of an account.
    #[must_use]
    pub fn account(&self, account: &Account) -> Option<&AccountRow> {
        let index = self
            .accounts
            .binary_search_by(|row| row.account.cmp(account));
        index.ok().map(|index| &self.accounts[index])
    }

    /// Its place among its own hosts.
    #[must_use]
    pub fn index_of(&self, host: &str) -> Option<usize> {
        self.hosts.iter().position(|other| other == host)
    }

    /// The row as it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        code::encode(self)
    }

    /// Reads a stored row.
    ///
    /// # Errors
    /// [`CodeError`] if it is none, or one of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodeError> {
        code::decode(bytes)
    }
}
