//! What a ledger must find again when its host starts the next time.

use super::standing::Access;
use crate::fleet::code::{CodeError, Form, Reader, Writer};
use crate::fleet::moment::Moment;
use crate::fleet::row::{ACCOUNTS_MAX, HOSTS_MAX, Members};
use crate::model::Account;

/// What is to be on disk before the row of the same beat is published. It need not survive the end of
/// the machine: after that nothing is known ([`Before::Unknown`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Kept {
    /// The start that wrote it.
    pub incarnation: u64,
    /// All hosts by its configuration, in order.
    pub hosts: Vec<String>,
    /// The members whose part it had.
    pub used: Members,
    /// The newest members that it knew.
    pub known: Members,
    /// How many permits of each account are lent, at most.
    pub lent: Vec<(Account, u32)>,
}

/// What an earlier start of this host left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// There was none, or none that had lent anything or knew of evictions.
    Nothing,
    /// What it kept, read in the same boot of the same machine.
    Kept(Kept),
    /// There was one, and nobody knows what it lent, at the latest at this moment: now, or the boot
    /// if it was of an earlier one.
    Unknown(Moment),
}

/// What an earlier start of this host left, and what that lets this one take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// What it left.
    pub before: Before,
    /// Whether this host takes its part at once. One that the others may have evicted meanwhile does not.
    pub access: Access,
}

impl Left {
    /// There was no earlier start.
    pub const NOTHING: Self = Self {
        before: Before::Nothing,
        access: Access::Open,
    };
}

const FORM: Form = Form {
    magic: *b"kefk",
    version: 1,
    longest: 1024 * 1024,
};

impl Kept {
    /// As it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        FORM.encode(|out| {
            out.number(self.incarnation);
            out.list(&self.hosts, |out, host| out.text(host));
            out.members(&self.used);
            out.members(&self.known);
            out.list(&self.lent, |out: &mut Writer, (account, permits)| {
                out.text(account.as_str());
                out.number((*permits).into());
            });
        })
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// [`CodeError`]: then nothing is known ([`Before::Unknown`]).
    pub fn decode(bytes: &[u8]) -> Result<Self, CodeError> {
        let lent = |input: &mut Reader<'_>| {
            let account = Account::from_normal(&input.text()?);
            Some((account, input.small()?))
        };
        FORM.decode(bytes, |input| {
            Some(Self {
                incarnation: input.number()?,
                hosts: input.list(HOSTS_MAX, Reader::text)?,
                used: input.members()?,
                known: input.members()?,
                lent: input.list(ACCOUNTS_MAX, lent)?,
            })
        })
    }
}
