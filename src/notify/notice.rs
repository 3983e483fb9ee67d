//! What operators are told, as JSON for their webhook (`infra/schemas/notice.schema.json`). Pure.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::Serialize;

use super::label::Label;
use super::letter::Letter;

/// Its form: raised when a field changes its meaning or goes.
const VERSION: u32 = 1;

/// What a program wants to know beside the words of the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whose calls it concerns, where that is one tenant.
    pub tenant: Option<String>,
    /// Which published address it concerns.
    pub address: Option<Ipv4Addr>,
    /// When the first failure was seen.
    pub since: Option<Timestamp>,
    /// The success that has stood since, of what is over.
    pub until: Option<Timestamp>,
    /// This host.
    pub host: String,
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    id: &'a str,
    reference: &'a str,
    kind: &'static str,
    cause: &'a str,
    account: Option<&'a str>,
    tenant: Option<&'a str>,
    address: Option<Ipv4Addr>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    written: Timestamp,
    host: &'a str,
    subject: &'a str,
    text: &'a str,
}

/// The bytes that are posted.
///
/// # Errors
/// The serializer's.
pub fn compose(label: &Label, facts: &Facts, letter: &Letter) -> serde_json::Result<Vec<u8>> {
    let document = Document {
        version: VERSION,
        id: &label.id(),
        reference: &label.reference,
        kind: label.kind.name(),
        cause: &label.cause,
        account: label.account.as_deref(),
        tenant: facts.tenant.as_deref(),
        address: facts.address,
        since: facts.since,
        until: facts.until,
        written: label.created,
        host: &facts.host,
        subject: &letter.subject,
        text: &letter.body,
    };
    serde_json::to_vec(&document)
}
