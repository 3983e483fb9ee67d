//! What a call holds while it is at kintone: the permit and the connection.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::exchange::Exchange;
use super::upload::{Outgoing, Upload};
use crate::egress::Checkout;
use crate::model::{Detail, Outcome};
use crate::quota::Permit;

/// How much of an answer is read for a caller that has left, so that kintone's end is seen. What is
/// longer is aborted.
const READ_WITHOUT_CALLER_MAX: u64 = 8 << 20;

/// The permit and the connection of a call that was sent.
pub(crate) struct Carriage {
    pub(crate) permit: Permit,
    pub(crate) checkout: Checkout<Outgoing>,
    pub(crate) upload: Option<Arc<Upload>>,
}

impl Carriage {
    /// kintone's last byte has come: the permit goes back, the connection too if it can carry
    /// another call.
    pub(crate) fn arrive(self, exchange: &mut Exchange) {
        exchange.record().permit = Some(self.permit.held());
        self.permit.finish();
        match self.upload {
            Some(upload) if !upload.is_whole() => upload.give_up(),
            Some(_) | None => exchange.kept(self.checkout.give_back()),
        }
    }

    /// The connection is closed before kintone's end was seen: the permit settles.
    pub(crate) fn abort(self, exchange: &mut Exchange) {
        exchange.record().permit = Some(self.permit.held());
    }
}

/// Reads what is left of an answer for nobody, so that kintone's end is seen.
pub(crate) async fn read_without_caller(
    mut incoming: Incoming,
    carriage: Carriage,
    mut exchange: Exchange,
    response_timeout: Duration,
) {
    let mut read = 0;
    loop {
        match tokio::time::timeout(response_timeout, incoming.frame()).await {
            Ok(None) => return carriage.arrive(&mut exchange),
            Ok(Some(Ok(frame))) => {
                read += frame.data_ref().map_or(0, |data| data.len() as u64);
                if read > READ_WITHOUT_CALLER_MAX {
                    exchange.ended(Outcome::CallerGone, Some(Detail::AnswerTooLong));
                    return carriage.abort(&mut exchange);
                }
            }
            Ok(Some(Err(_))) => {
                exchange.ended(Outcome::CallerGone, Some(Detail::ResponseCut));
                return carriage.abort(&mut exchange);
            }
            Err(_) => {
                exchange.ended(Outcome::CallerGone, Some(Detail::ResponseTimeout));
                return carriage.abort(&mut exchange);
            }
        }
    }
}
