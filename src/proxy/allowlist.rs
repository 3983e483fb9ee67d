//! What a customer must be told whose IP address restriction does not let us in: the addresses to allow,
//! as the configuration publishes them, and the page that says where.

use std::fmt::Write as _;

use http::HeaderValue;

use super::hint;
use crate::config::{AddressState, EgressAddress};
use crate::kintone::help;
use crate::model::Account;

/// The hints about the allowlist, as they stand in headers.
pub(crate) struct AllowlistHints {
    cybozu: AllowlistHint,
    kintone_com: AllowlistHint,
}

/// A hint in both languages, ready for its headers.
pub(crate) struct AllowlistHint {
    pub(crate) en: HeaderValue,
    pub(crate) ja: HeaderValue,
}

impl AllowlistHints {
    /// For the addresses that are in use anywhere in the fleet.
    pub(crate) fn new(addresses: &[EgressAddress]) -> Self {
        let mut active = addresses
            .iter()
            .filter(|address| address.state == AddressState::Active)
            .peekable();
        let (mut en, mut ja) = (String::new(), String::new());
        while let Some(address) = active.next() {
            let (and, to) = match (en.is_empty(), active.peek()) {
                (true, _) => ("", ""),
                (false, Some(_)) => (", ", "、"),
                (false, None) => (" and ", " と "),
            };
            let _ = write!(en, "{and}{}/32", address.published);
            let _ = write!(ja, "{to}{}/32", address.published);
        }
        Self {
            cybozu: AllowlistHint::new(&en, &ja, help::RESTRICTIONS_CYBOZU),
            kintone_com: AllowlistHint::new(&en, &ja, help::RESTRICTIONS_KINTONE_COM),
        }
    }

    /// The one with the page for that account.
    pub(crate) fn of(&self, account: &Account) -> &AllowlistHint {
        if help::ip_restrictions(account) == help::RESTRICTIONS_KINTONE_COM {
            &self.kintone_com
        } else {
            &self.cybozu
        }
    }
}

impl AllowlistHint {
    fn new(en: &str, ja: &str, page: help::Page) -> Self {
        let en = format!(
            "kintone's edge refused the call: most likely the customer's IP address restriction \
             does not allow {en}; all of them must be allowed, see {}",
            page.en
        );
        let ja = format!(
            "kintone の手前で拒否されました。お客様の IP アドレス制限で {ja} がすべて許可されているか確認してください。\
             設定方法は {} をご覧ください。",
            page.ja
        );
        Self {
            en: hint::line_en(&en),
            ja: hint::line_ja(&ja),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Published;

    fn address(text: &str, state: AddressState) -> EgressAddress {
        EgressAddress {
            published: Published(text.parse().unwrap()),
            bind: None,
            state,
            elsewhere: Vec::new(),
            valid_from: None,
            retire_after: None,
        }
    }

    fn of(addresses: &[EgressAddress], account: &str) -> (String, String) {
        let hints = AllowlistHints::new(addresses);
        let hint = hints.of(&Account::from_normal(account));
        let text = |value: &HeaderValue| {
            let decoded = percent_encoding::percent_decode(value.as_bytes());
            decoded.decode_utf8().unwrap().into_owned()
        };
        (text(&hint.en), text(&hint.ja))
    }

    #[test]
    fn every_active_address_is_named_and_the_page_of_the_account() {
        let addresses = [
            address("192.0.2.1", AddressState::Active),
            address("192.0.2.2", AddressState::Planned),
            address("198.51.100.7", AddressState::Active),
            address("192.0.2.3", AddressState::Retiring),
        ];
        let (en, ja) = of(&addresses, "acme.cybozu.com");
        assert!(en.contains("192.0.2.1/32 and 198.51.100.7/32;"), "{en}");
        assert!(en.ends_with(help::RESTRICTIONS_CYBOZU.en), "{en}");
        assert!(ja.contains("192.0.2.1/32 と 198.51.100.7/32 が"), "{ja}");
        assert!(ja.contains(help::RESTRICTIONS_CYBOZU.ja), "{ja}");
        for planned in ["192.0.2.2", "192.0.2.3"] {
            assert!(!en.contains(planned) && !ja.contains(planned));
        }
        let (en, ja) = of(&addresses[..1], "acme.kintone.com");
        assert!(en.contains("does not allow 192.0.2.1/32;"), "{en}");
        assert!(
            en.contains(help::RESTRICTIONS_KINTONE_COM.en)
                && ja.contains(help::RESTRICTIONS_KINTONE_COM.ja)
        );
    }
}
