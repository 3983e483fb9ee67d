//! What a call learns of the address that it left from, and its way around a refusal.
//!
//! kintone's edge refuses an address before it looks at the call, so that the call can be sent again
//! from another one, whatever it does.

use http::header::AUTHORIZATION;
use http::{HeaderMap, Response};
use hyper::body::Incoming;

use super::carriage::Carriage;
use super::held::{Held, HeldEnd};
use super::journey::{Delivered, End, Journey};
use super::reply::After;
use crate::egress::{Taken, Way};
use crate::kintone::answer::{Concurrency, Edge, edge};
use crate::model::Cause;
use crate::quota::Permit;
use crate::telemetry::Retry;

impl Journey<'_> {
    /// Takes note of what an answer says of the address; tells it too.
    pub(super) fn learn(
        &self,
        figures: Concurrency,
        code: Option<&str>,
        cause: Option<Cause>,
    ) -> Option<Edge> {
        let acceptance = self.shared.egress.acceptance();
        let account = &self.call.destination.account;
        let Some(said) = edge(figures, code, cause) else {
            acceptance.called(account);
            return None;
        };
        let taken = match said {
            // Whoever knows the password gets in from anywhere.
            Edge::LetIn if has_second_door(&self.head.headers) => {
                acceptance.called(account);
                return Some(said);
            }
            Edge::LetIn => Taken::Accepted,
            Edge::TurnedAway => Taken::Refused,
        };
        acceptance.saw(account, self.source.published, taken);
        Some(said)
    }

    /// Leaves from another address after kintone's edge refused this one, on the same permit; passes
    /// the refusal on if there is none that may be better, or the body is not at hand any more.
    #[expect(
        clippy::result_large_err,
        reason = "made and taken apart once a call, never kept"
    )]
    pub(super) fn go_around(
        &mut self,
        response: Response<Incoming>,
        held: Held,
        carriage: Carriage,
    ) -> Result<Permit, End> {
        self.tried.push(self.source.published);
        let acceptance = self.shared.egress.acceptance();
        let way = acceptance.way_around(&self.call.destination.account, &self.tried);
        let Some(Way::Here(source)) = way.filter(|_| self.is_at_hand()) else {
            self.forget_upload();
            return Err(End::Deliver(Delivered {
                response,
                held: held.frames,
                carriage: Some(carriage),
                cause: Some(Cause::IpNotAllowlisted),
                after: After::Keep,
                newborn: None,
            }));
        };
        let Carriage {
            mut permit,
            checkout,
            upload,
        } = carriage;
        permit.not_sent();
        self.not_counted();
        self.exchange.returned();
        self.exchange.turned_away();
        if held.end == HeldEnd::Whole && upload.is_none_or(|upload| upload.is_whole()) {
            self.exchange.kept(checkout.give_back());
        }
        self.shared.telemetry.retried(Retry::AddressRefused);
        let record = self.exchange.record();
        record.retries += 1;
        (record.cause, record.kintone_code, record.kintone_id) = (None, None, None);
        self.leave_from(source);
        Ok(permit)
    }
}

/// Whether the call has what lets it in from addresses that are not allowed: Basic authentication is
/// cybozu.com's second door
/// (<https://jp.cybozu.help/general/ja/admin/list_security/list_secureaccess/secureaccess.html>).
fn has_second_door(headers: &HeaderMap) -> bool {
    let is_basic = |value: &[u8]| {
        value
            .get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "))
    };
    let mut values = headers.get_all(AUTHORIZATION).iter();
    values.any(|value| is_basic(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_basic_authentication_is_a_second_door() {
        let headers =
            |value| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
        assert!(has_second_door(&headers("BASIC ZGVtbzpkZW1v")));
        assert!(!has_second_door(&headers("Bearer cy.s.api1.x")));
        assert!(!has_second_door(&headers("basic")));
        assert!(!has_second_door(&HeaderMap::new()));
    }
}
