//! A call that was let in: who makes it, where it goes, what was said about it.

use std::cell::RefCell;
use std::sync::Arc;

use super::exchange::Exchange;
use super::identity::Identity;
use super::judge::Judged;
use super::message::Language;
use super::options::Options;
use super::reply::{After, Reason, Story};
use super::shared::Rules;
use crate::kintone::domain::{Destination, Door};
use crate::model::{Mode, Published, RequestId};
use crate::quota::Ask;
use crate::server::Connection;

/// A call with everything that judging it found out.
pub(crate) struct Call {
    pub(crate) rules: Arc<Rules>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) identity: Identity,
    pub(crate) options: Options,
    pub(crate) destination: Destination,
    pub(crate) language: Language,
    /// The way in.
    pub(crate) mode: Mode,
    /// From where it is to leave, if another host has handed it over.
    pub(crate) wanted: Option<Published>,
}

/// The caller has left: there is nobody to answer.
#[derive(Debug, thiserror::Error)]
#[error("the caller has left")]
pub struct CallerLeft;

impl Call {
    /// What the judge let in.
    pub(crate) fn new(
        rules: Arc<Rules>,
        connection: Arc<Connection>,
        judged: Judged,
        language: Language,
    ) -> Self {
        Self {
            rules,
            connection,
            identity: judged.identity,
            options: judged.options,
            destination: judged.destination,
            mode: judged.mode,
            language,
            wanted: None,
        }
    }

    /// The same for a call that another host has handed over, and that is to leave from `wanted`.
    pub(crate) fn leaving_from(self, wanted: Published) -> Self {
        Self {
            wanted: Some(wanted),
            ..self
        }
    }

    /// The addresses that it may leave from; any where none is named. A host that asks for a client
    /// certificate lets its clients in from anywhere.
    pub(crate) fn accepted(&self) -> &[Published] {
        match (&self.wanted, self.destination.door) {
            (Some(wanted), _) => std::slice::from_ref(wanted),
            (None, Door::ClientCertificate) => &[],
            (None, Door::Plain) => self.rules.config.accepted_by(&self.destination.account),
        }
    }

    /// What it asks of the quota.
    pub(crate) fn ask(&self, weight: u32) -> Ask<'_> {
        self.identity
            .ask(&self.options, &self.destination.account, weight)
    }
}

/// What a refusal tells of the call on `exchange`.
pub(crate) fn story(exchange: &Exchange, language: Language, after: After) -> Story<'_> {
    let record = exchange.known();
    Story {
        id: record.id,
        account: record.account.as_ref(),
        tenant: record.tenant.as_ref(),
        address: record.address,
        queued: record.queued,
        language,
        after,
    }
}

/// Ends `exchange` with a refusal, and makes the answer that tells it.
pub(crate) fn refuse(
    exchange: &mut Exchange,
    reason: Reason,
    language: Language,
    after: After,
) -> http::Response<bytes::Bytes> {
    exchange.refused(reason);
    super::reply::refuse(reason, story(exchange, language, after))
}

/// A new identifier.
pub(crate) fn new_id() -> RequestId {
    thread_local! {
        static UNUSED: RefCell<Randomness> = const { RefCell::new(Randomness::EMPTY) };
    }
    RequestId::from_random(UNUSED.with_borrow_mut(Randomness::take))
}

/// Random bytes of the kernel's, fetched for many identifiers at once: it takes a system call.
struct Randomness {
    bytes: [u8; 512],
    used: usize,
}

impl Randomness {
    const EMPTY: Self = Self {
        bytes: [0; 512],
        used: 512,
    };

    fn take(&mut self) -> u128 {
        if self.used == self.bytes.len() {
            // Without the kernel's randomness nothing else here would run either; a repeated
            // identifier would only make a log harder to read.
            let _ = getrandom::fill(&mut self.bytes);
            self.used = 0;
        }
        let mut taken = [0; 16];
        taken.copy_from_slice(&self.bytes[self.used..self.used + 16]);
        self.used += 16;
        u128::from_le_bytes(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn identifiers_do_not_repeat_when_randomness_is_fetched_again() {
        let ids: HashSet<_> = (0..100).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 100);
    }
}
