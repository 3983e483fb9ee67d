//! What a call learns of the address that it left from, and its way around a refusal.
//!
//! kintone's edge refuses an address before it looks at the call, so that the call can be sent again
//! from another one, of this host or of another, whatever it does.

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Response};
use hyper::body::Incoming;

use super::carriage::Carriage;
use super::elsewhere::Elsewhere;
use super::held::{Held, HeldEnd};
use super::journey::{Delivered, End, Journey, Onward};
use super::reply::After;
use crate::egress::{Taken, Way};
use crate::kintone::answer::{Concurrency, Edge, edge};
use crate::model::{Cause, HostName};
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

    /// Leaves from another address after kintone's edge refused this one, on the same permit, or is to
    /// be handed to a host that has one; passes the refusal on if there is none that may be better, or
    /// the body is not at hand any more.
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
        match way.filter(|_| self.is_at_hand()) {
            Some(Way::Here(source)) => {
                let permit = self.take_back(held.end, carriage);
                self.exchange.turned_away();
                self.shared.telemetry.retried(Retry::AddressRefused);
                let record = self.exchange.record();
                record.retries += 1;
                (record.cause, record.kintone_code, record.kintone_id) = (None, None, None);
                self.leave_from(source);
                Ok(permit)
            }
            // What is not held whole could not be passed on if no other host took the call.
            Some(Way::Elsewhere(host)) if held.end == HeldEnd::Whole => {
                match self.handing_on(&host) {
                    Some(onward) => Err(self.go_on(onward, response, held, carriage)),
                    None => Err(self.pass(refusal(response, held, Some(carriage)))),
                }
            }
            Some(Way::Elsewhere(_)) | None => {
                Err(self.pass(refusal(response, held, Some(carriage))))
            }
        }
    }

    /// kintone's refusal is the answer.
    fn pass(&self, refusal: Delivered) -> End {
        self.forget_upload();
        End::Deliver(refusal)
    }

    /// Where it can be handed, and as what.
    fn handing_on(&mut self, host: &HostName) -> Option<(Elsewhere, Box<Parts>)> {
        let elsewhere = Elsewhere::around(self.shared, self.call, host, &self.tried)?;
        Some((elsewhere, self.original.take()?))
    }

    /// Leaves this host. Its permit goes back first: the other host takes its own, and the account may
    /// have one only.
    fn go_on(
        &mut self,
        (elsewhere, head): (Elsewhere, Box<Parts>),
        response: Response<Incoming>,
        held: Held,
        carriage: Carriage,
    ) -> End {
        let upload = carriage.upload.clone();
        let permit = self.take_back(held.end, carriage);
        self.exchange.record().permit = Some(permit.held());
        drop(permit);
        End::Elsewhere(Box::new(Onward {
            elsewhere,
            head,
            upload,
            refusal: refusal(response, held, None),
        }))
    }

    /// kintone has done nothing for this try: what it held is free for another one.
    fn take_back(&mut self, end: HeldEnd, carriage: Carriage) -> Permit {
        let Carriage {
            mut permit,
            checkout,
            upload,
        } = carriage;
        permit.not_sent();
        self.not_counted();
        self.exchange.returned();
        if end == HeldEnd::Whole && upload.is_none_or(|upload| upload.is_whole()) {
            self.exchange.kept(checkout.give_back());
        }
        permit
    }
}

/// The refusal of kintone's edge as an answer for the caller.
fn refusal(response: Response<Incoming>, held: Held, carriage: Option<Carriage>) -> Delivered {
    Delivered {
        response,
        held: held.frames,
        carriage,
        cause: Some(Cause::IpNotAllowlisted),
        after: After::Keep,
        newborn: None,
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
