//! Whether kintone's edge, which knows the customer's IP address restriction, has let a call in.

use super::concurrency::Concurrency;
use crate::model::Cause;

/// What an answer says of the address that its call came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// kintone itself has answered, whatever it says.
    LetIn,
    /// The edge refused the address.
    TurnedAway,
}

/// What an answer says: kintone's own mark is its figures of calls or a code of its errors. An answer
/// without either, such as a redirect or a page of maintenance, says nothing.
#[must_use]
pub fn edge(figures: Concurrency, code: Option<&str>, cause: Option<Cause>) -> Option<Edge> {
    if figures.limit.is_some() || figures.running.is_some() || code.is_some() {
        return Some(Edge::LetIn);
    }
    (cause == Some(Cause::IpNotAllowlisted)).then_some(Edge::TurnedAway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kintones_own_mark_proves_that_a_call_was_let_in() {
        let figures = Concurrency {
            limit: Some(100),
            running: None,
        };
        let none = Concurrency::default();
        let refused = Some(Cause::IpNotAllowlisted);
        assert_eq!(edge(figures, None, None), Some(Edge::LetIn));
        let wrong_password = Some(Cause::Authentication);
        assert_eq!(
            edge(none, Some("CB_WA01"), wrong_password),
            Some(Edge::LetIn)
        );
        assert_eq!(edge(figures, None, refused), Some(Edge::LetIn));
        assert_eq!(edge(none, None, refused), Some(Edge::TurnedAway));
        for cause in [None, Some(Cause::Maintenance), Some(Cause::AccountUnknown)] {
            assert_eq!(edge(none, None, cause), None, "{cause:?}");
        }
    }
}
