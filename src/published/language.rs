//! The two languages that customers are spoken to in, and what both of them say.

use jiff::civil::Date;

use super::memory::What;
use crate::config::AddressState;

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// Japanese.
    Ja,
    /// English.
    En,
}

impl Language {
    /// The one that is asked for: by `lang` of the query, else by `Accept-Language` (RFC 9110
    /// section 12.5.4); Japanese, if neither says.
    pub(super) fn of(query: Option<&str>, accept: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&');
        let mut asked = pairs.filter_map(|pair| pair.strip_prefix("lang="));
        if let Some(language) = asked.find_map(Self::named) {
            return language;
        }
        let ranges = accept.unwrap_or_default().split(',');
        let mut best = (Self::Ja, 0.0);
        for range in ranges {
            let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
            let weight = weight.trim().strip_prefix("q=");
            let weight: f32 = weight.and_then(|q| q.trim().parse().ok()).unwrap_or(0.0);
            if let Some(language) = Self::named(tag.trim())
                && weight > best.1
            {
                best = (language, weight);
            }
        }
        best.0
    }

    /// The language of a tag such as `en-US`.
    fn named(tag: &str) -> Option<Self> {
        let primary = tag.split('-').next().unwrap_or_default();
        if primary.eq_ignore_ascii_case("ja") {
            Some(Self::Ja)
        } else if primary.eq_ignore_ascii_case("en") {
            Some(Self::En)
        } else {
            None
        }
    }

    /// A day.
    pub(super) fn date(self, date: Date) -> String {
        match self {
            Self::Ja => date.strftime("%Y年%-m月%-d日").to_string(),
            Self::En => date.strftime("%-d %B %Y").to_string(),
        }
    }

    /// The state of an address, in a word or two.
    pub(super) const fn state(self, state: AddressState) -> &'static str {
        match (self, state) {
            (Self::Ja, AddressState::Planned) => "使用予定",
            (Self::Ja, AddressState::Active) => "使用中",
            (Self::Ja, AddressState::Retiring) => "使用終了",
            (Self::En, AddressState::Planned) => "planned",
            (Self::En, AddressState::Active) => "in use",
            (Self::En, AddressState::Retiring) => "no longer used",
        }
    }

    /// What a change of an address asks of customers.
    pub(super) fn change(self, what: What) -> String {
        let date = |date| self.date(date);
        match (self, what) {
            (Self::Ja, What::Planned { from: Some(from) }) => {
                format!("{}から使用します。それまでに追加してください", date(from))
            }
            (Self::Ja, What::Planned { from: None }) => {
                "使用を予定しています。追加してください".to_owned()
            }
            (Self::Ja, What::Active { until: Some(until) }) => {
                format!(
                    "{}に使用を終了します。それまでは削除しないでください",
                    date(until)
                )
            }
            (Self::Ja, What::Active { until: None }) => "使用を始めました".to_owned(),
            (Self::Ja, What::Retiring { .. }) => {
                "使用を終了しました。この一覧から消えたら削除してください".to_owned()
            }
            (Self::Ja, What::Removed) => {
                "一覧から削除しました。kintone の設定からも削除してください".to_owned()
            }
            (Self::En, What::Planned { from: Some(from) }) => {
                format!("will be used from {}; add it before then", date(from))
            }
            (Self::En, What::Planned { from: None }) => "will be used; add it".to_owned(),
            (Self::En, What::Active { until: Some(until) }) => {
                format!("will be used until {}; keep it until then", date(until))
            }
            (Self::En, What::Active { until: None }) => "is in use".to_owned(),
            (Self::En, What::Retiring { .. }) => {
                "is no longer used; remove it when it has left this list".to_owned()
            }
            (Self::En, What::Removed) => {
                "has left the list; remove it from your kintone too".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn japanese_unless_english_is_asked_for() {
        let of = |query: &str, accept: &str| Language::of(Some(query), Some(accept));
        assert_eq!(Language::of(None, None), Language::Ja);
        assert_eq!(of("", "en-US,en;q=0.9"), Language::En);
        assert_eq!(of("", "en;q=0.8, ja;q=0.9"), Language::Ja);
        assert_eq!(of("", "ja;q=0.8, en-GB"), Language::En);
        assert_eq!(of("", "fr, *;q=0.5"), Language::Ja);
        assert_eq!(of("", "en;q=0"), Language::Ja);
        assert_eq!(of("", "en;q=x,;;,"), Language::Ja);
        assert_eq!(of("x=1&lang=en", "ja"), Language::En);
        assert_eq!(of("lang=ja", "en"), Language::Ja);
        assert_eq!(of("lang=fr", "en"), Language::En);
    }
}
