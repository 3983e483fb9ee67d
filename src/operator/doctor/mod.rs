//! `doctor`: is this host fit to run the gateway, and does a customer's kintone let in each of its
//! addresses? Nothing is changed. A customer's kintone is asked for one page from each address, without
//! credentials and beside the quota.

use std::sync::Arc;

use jiff::Timestamp;

use crate::config::Config;
use crate::egress::{Egress, EgressError};
use crate::published::{current, in_force};
use crate::tls::outbound::{Outbound, TlsError};

pub use report::Report;

use customer::WayOut;

mod customer;
mod host;
mod neighbours;
mod people;
mod report;

/// Why nothing could be examined.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// Trust anchors cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Names cannot be resolved.
    #[error(transparent)]
    Egress(#[from] EgressError),
}

/// Examines this host and, from each of its addresses in use, the kintone of `domain`.
///
/// # Errors
/// [`DoctorError`], if there is no way out to examine.
pub async fn examine(
    config: Config,
    domain: Option<&str>,
    now: Timestamp,
) -> Result<Report, DoctorError> {
    let (list, alarms) = current(&config, now);
    let config = in_force(&Arc::new(config), &list.states());
    let tls = Outbound::new(config.upstream.ca_file.as_deref())?;
    let egress: Arc<WayOut> = Egress::new(&config, tls)?;
    let mut report = Report::default();
    for alarm in alarms {
        report.finding("published list", alarm);
    }
    host::examine(&config, &egress, now, &mut report).await;
    neighbours::examine(&config, now, &mut report).await;
    people::examine(&config, &mut report).await;
    match domain {
        Some(domain) => customer::examine(&config, &egress, domain, &mut report).await,
        None => report.note(
            "customer",
            "not looked at: with a DOMAIN behind, its kintone is asked from each address",
        ),
    }
    Ok(report)
}
