//! A letter as a mail: plain text in UTF-8 (RFC 5322, RFC 2045), marked as written by a program
//! (RFC 3834), which keeps other programs from answering.

use std::time::SystemTime;

use jiff::Timestamp;
use lettre::Message;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};

use super::letter::Letter;

/// Why a letter cannot become a mail.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// An address is none.
    #[error("{0} is no mail address: {1}")]
    Address(String, lettre::address::AddressError),
    /// The parts do not make a mail.
    #[error("the mail cannot be put together: {0}")]
    Build(#[from] lettre::error::Error),
}

/// Who writes to whom, and what makes the mail known.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// The sender.
    pub from: &'a str,
    /// The recipient.
    pub to: &'a str,
    /// What makes this mail known, without the domain.
    pub id: &'a str,
    /// The mail that this one follows, without the domain.
    pub follows: Option<&'a str>,
    /// When it was written.
    pub at: Timestamp,
}

/// `Auto-Submitted: auto-generated` (RFC 3834 section 5).
#[derive(Clone, Copy)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// The bytes of the mail, as they go to the server.
///
/// # Errors
/// [`MailError`].
pub fn compose(envelope: &Envelope<'_>, letter: &Letter) -> Result<Vec<u8>, MailError> {
    let mailbox = |address: &str| {
        let parsed = address.parse();
        let parsed = parsed.map_err(|error| MailError::Address(address.to_owned(), error));
        parsed.map(|address| Mailbox::new(None, address))
    };
    let domain = envelope
        .from
        .rsplit_once('@')
        .map_or("", |(_, domain)| domain);
    let named = |id: &str| format!("<{id}@{domain}>");
    let mut message = Message::builder()
        .from(mailbox(envelope.from)?)
        .to(mailbox(envelope.to)?)
        .date(SystemTime::from(envelope.at))
        .message_id(Some(named(envelope.id)))
        .header(AutoSubmitted)
        .subject(letter.subject.clone());
    if let Some(follows) = envelope.follows {
        message = message
            .in_reply_to(named(follows))
            .references(named(follows));
    }
    let text = SinglePart::builder()
        .header(ContentType::TEXT_PLAIN)
        .body(letter.body.replace('\n', "\r\n"));
    Ok(message.singlepart(text)?.formatted())
}
