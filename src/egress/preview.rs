//! What can be said of a destination before anybody is asked: nothing is sent.

use std::net::SocketAddrV4;

use super::resolve::static_answer;
use super::vet;
use crate::config::Upstream;
use crate::model::{Denial, Detail, Host};

/// Where a host name leads, as far as the configuration alone says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preview {
    /// To this address, by `[upstream.resolve]`.
    Static(SocketAddrV4),
    /// The resolver will be asked, and its answer vetted.
    Resolver,
}

/// Where `host` leads.
///
/// # Errors
/// [`Denial::DestinationForbidden`] for a static answer that may not be dialled.
pub fn preview(upstream: &Upstream, host: &Host) -> Result<Preview, Denial> {
    match static_answer(&upstream.resolve, host) {
        None => Ok(Preview::Resolver),
        Some(to) if vet::is_allowed(*to.ip(), &upstream.allow_networks) => Ok(Preview::Static(to)),
        Some(_) => Err(Denial::DestinationForbidden(Detail::AddressForbidden)),
    }
}
