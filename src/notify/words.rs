//! The two languages of letters: their fixed words, and who says the rest.

use super::letter::{News, Paragraphs};
use super::{english, japanese};

/// A language.
pub(super) struct Words {
    /// Begins the subject of what the reader must act on.
    pub(super) mark_action: &'static str,
    /// Begins the subject of what is over.
    pub(super) mark_over: &'static str,
    /// Begins the subject of what operators must act on.
    pub(super) mark_operators: &'static str,
    /// Which system it is about.
    pub(super) prefix: &'static str,
    /// Stands before the account in the subject.
    pub(super) before_account: &'static str,
    /// What is wrong, for the subject.
    pub(super) topic: fn(&News<'_>) -> String,
    /// The headings of the body, in their order.
    pub(super) headings: [&'static str; 7],
    /// That it goes on, since that time.
    pub(super) since: fn(&str) -> String,
    /// That it is over, by both times.
    pub(super) from_to: fn(&str, &str) -> String,
    /// What only operators are told: whose calls, which host.
    pub(super) to_operators: fn(&News<'_>) -> String,
    /// The paragraphs between.
    pub(super) paragraphs: fn(&News<'_>) -> Paragraphs,
}

/// Japanese.
pub(super) const JA: Words = Words {
    mark_action: "【要対応】",
    mark_over: "【復旧】",
    mark_operators: "【運用】",
    prefix: "kintone連携: ",
    before_account: "(",
    topic: japanese::topic,
    headings: [
        "■ 何が起きているか",
        "■ いつから",
        "■ 影響",
        "■ 対応のお願い",
        "■ 設定する場所",
        "■ お問い合わせ先",
        "■ 参照番号",
    ],
    since: japanese::since,
    from_to: japanese::from_to,
    to_operators: japanese::to_operators,
    paragraphs: japanese::paragraphs,
};

/// English.
pub(super) const EN: Words = Words {
    mark_action: "[Action required] ",
    mark_over: "[Resolved] ",
    mark_operators: "[Operations] ",
    prefix: "kintone integration: ",
    before_account: " (",
    topic: english::topic,
    headings: [
        "* What happens",
        "* Since when",
        "* Effect",
        "* What to do",
        "* Where",
        "* Whom to ask",
        "* Reference",
    ],
    since: english::since,
    from_to: english::from_to,
    to_operators: english::to_operators,
    paragraphs: english::paragraphs,
};
