//! What a connection waits for before it carries calls: that it leaves as the published address.

use std::sync::Arc;

use super::source::Address;
use super::verify::{Ticket, Word};
use crate::model::{Denial, Detail};

/// Of a connection that stands: the word of echoes that are asked after it stood.
#[derive(Debug)]
pub(super) struct Proof {
    address: Arc<Address>,
    ticket: Ticket,
}

impl Proof {
    /// To be called once the connection stands. `None`: it need not wait.
    pub(super) fn of(address: &Arc<Address>) -> Option<Self> {
        let ticket = address.gate().stand()?;
        Some(Self {
            address: Arc::clone(address),
            ticket,
        })
    }

    /// Waits for it. Whether the address may be used is to be looked at after that.
    ///
    /// # Errors
    /// The connection leaves as another address, or nobody knows as which.
    pub(super) async fn given(self) -> Result<(), Denial> {
        let detail = match self.address.gate().word(self.ticket).await {
            Word::Go => return Ok(()),
            Word::Other => Detail::AddressMismatch,
            Word::Left => Detail::AddressUnverified,
        };
        Err(Denial::EgressUnavailable(detail))
    }
}
