//! The sentence in a refusal: what happened, with the figures, and who must act. It repeats nothing
//! of the request but the account's domain.

use super::hint;
use super::options::OptionsError;
use super::reply::Reason;
use crate::model::{
    Account, Actor, Code, DailyFigures, Denial, Detail, Published, QuotaFigures, Refusing,
};

/// The language of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    En,
    Ja,
}

impl Language {
    /// The one of the two that is asked for with the larger weight (RFC 9110 section 12.5.4), the
    /// first where both have the same; English where neither is asked for.
    pub(crate) fn of(headers: &http::HeaderMap) -> Self {
        let mut best = (Self::En, 0);
        for value in headers.get_all(http::header::ACCEPT_LANGUAGE) {
            let ranges = value.to_str().unwrap_or_default().split(',');
            for (language, weight) in ranges.filter_map(Self::weighed) {
                if weight > best.1 {
                    best = (language, weight);
                }
            }
        }
        best.0
    }

    /// A language range, such as `ja-JP;q=0.8`, and its weight in thousandths.
    fn weighed(range: &str) -> Option<(Self, u32)> {
        let mut parts = range.split(';').map(str::trim);
        let tag = parts.next().unwrap_or_default();
        let primary = tag.split('-').next().unwrap_or_default();
        let language = if primary.eq_ignore_ascii_case("ja") {
            Self::Ja
        } else if primary.eq_ignore_ascii_case("en") {
            Self::En
        } else {
            return None;
        };
        let weight = match parts.find_map(|part| part.strip_prefix("q=")) {
            None => 1.0,
            Some(weight) => weight.parse::<f32>().ok()?,
        };
        (0.0..=1.0)
            .contains(&weight)
            .then_some((language, (weight * 1000.0) as u32))
    }
}

impl Reason {
    /// What people are told: the sentence, and what to do.
    pub(crate) fn told(
        self,
        account: Option<&Account>,
        language: Language,
    ) -> (String, &'static str) {
        let actor = hint::actor(self.code(), self.detail());
        let hint = hint::of(self.code(), self.detail());
        let hint = match language {
            Language::En => hint.en,
            Language::Ja => hint.ja,
        };
        (of(self, account, actor, language), hint)
    }
}

/// The sentence.
pub(crate) fn of(
    reason: Reason,
    account: Option<&Account>,
    actor: Actor,
    language: Language,
) -> String {
    let what = match language {
        Language::En => english(reason),
        Language::Ja => japanese(reason),
    };
    let must = match language {
        Language::En => must_english(reason, actor),
        Language::Ja => must_japanese(reason, actor),
    };
    let joint = match language {
        Language::En => "; ",
        Language::Ja => "。",
    };
    match account {
        Some(account) => format!("{account}: {what}{joint}{must}"),
        None => format!("{what}{joint}{must}"),
    }
}

fn english(reason: Reason) -> String {
    if let Reason::Options(error) = reason {
        return error.to_string();
    }
    if let Some(text) = figures(reason).map(|figures| english_figures(reason.code(), figures)) {
        return text;
    }
    if let Some(DailyFigures {
        app,
        requests,
        budget,
        ..
    }) = daily_figures(reason)
    {
        return format!("app {app}: {requests} calls today, {budget} let through a day");
    }
    if let Some((line, detail)) = line_of(reason) {
        return format!("this account accepts {line}/32 alone, which cannot be used ({detail})");
    }
    if let Reason::Denied(Denial::AddressRefused(Refusing { accepted, missing })) = reason {
        return format!(
            "it accepts {accepted}, which cannot be used now, and refuses {missing}; nothing was sent"
        );
    }
    let text = match reason.code() {
        Code::BadRequest if reason.detail() == Some(Detail::PageUnknown) => {
            "no such page below /.kintone-egress/, which has ready, help, ca.pem and me"
        }
        Code::BadRequest if reason.detail() == Some(Detail::NoAuthority) => {
            "[inspect] is off at this gateway: there is no authority to trust"
        }
        Code::BadRequest => "malformed or unsupported request",
        Code::Misdirected => "Host is not the name given to CONNECT",
        Code::AuthenticationRequired => "proxy authentication required",
        Code::DestinationForbidden => "this destination is not allowed",
        Code::CallerForbidden => "this caller may not do that",
        Code::AccountUnknown => "kintone does not know this domain",
        Code::RateLimited | Code::QueueFull | Code::WaitExceeded => "no permit",
        Code::DailyBudget => "the app's calls of today are used up",
        Code::EgressUnavailable => "no published address can be used",
        Code::Draining => "this host is shutting down",
        Code::Overloaded => "out of a local resource",
        Code::AccountMaintenance => "kintone is in maintenance",
        Code::UpstreamDns => "kintone's name could not be resolved, nothing was sent",
        Code::UpstreamConnect => "kintone could not be reached, nothing was sent",
        Code::UpstreamTls => "no trusted TLS connection to kintone, nothing was sent",
        Code::UpstreamTimeout | Code::UpstreamReset
            if reason.detail() == Some(Detail::PeerLost) =>
        {
            "the host that has the address gave no answer, the outcome is unknown"
        }
        Code::UpstreamTimeout => "kintone did not answer in time, the outcome is unknown",
        Code::UpstreamReset => "the connection to kintone broke, the outcome is unknown",
        Code::Internal => "internal error of the gateway",
    };
    with_detail(text, reason.detail())
}

fn japanese(reason: Reason) -> String {
    if let Reason::Options(error) = reason {
        return match error {
            OptionsError::Malformed(place) => format!("形式が正しくありません（{place}）"),
            OptionsError::Repeated(place) => format!("複数回指定されています（{place}）"),
            OptionsError::TenantsDiffer => {
                "ヘッダーとユーザー名で異なるテナントが指定されています".to_owned()
            }
        };
    }
    if let Some(text) = figures(reason).map(|figures| japanese_figures(reason.code(), figures)) {
        return text;
    }
    if let Some(DailyFigures {
        app,
        requests,
        budget,
        ..
    }) = daily_figures(reason)
    {
        return format!(
            "アプリ {app} の本日の API 実行は {requests} 件で、1 日の上限は {budget} 件です"
        );
    }
    if let Some((line, detail)) = line_of(reason) {
        return format!("このドメインで許可されている {line}/32 を現在使用できません（{detail}）");
    }
    if let Reason::Denied(Denial::AddressRefused(Refusing { accepted, missing })) = reason {
        return format!(
            "許可されている {accepted} は現在使用できず、{missing} は許可されていません。何も送信していません"
        );
    }
    let text = match reason.code() {
        Code::BadRequest if reason.detail() == Some(Detail::PageUnknown) => {
            "/.kintone-egress/ にそのページはありません。あるのは ready、help、ca.pem、me です"
        }
        Code::BadRequest if reason.detail() == Some(Detail::NoAuthority) => {
            "このゲートウェイは TLS を終端しません（[inspect] がありません）。信頼する認証局はありません"
        }
        Code::BadRequest => "リクエストの形式が正しくないか、対応していません",
        Code::Misdirected => "Host が CONNECT の宛先と異なります",
        Code::AuthenticationRequired => "プロキシの認証が必要です",
        Code::DestinationForbidden => "この宛先には接続できません",
        Code::CallerForbidden => "この呼び出し元には許可されていません",
        Code::AccountUnknown => "kintone にこのドメインは存在しません",
        Code::RateLimited | Code::QueueFull | Code::WaitExceeded => "許可を得られません",
        Code::DailyBudget => "このアプリの本日の API 実行回数を使い切りました",
        Code::EgressUnavailable => "使用できる公開 IP アドレスがありません",
        Code::Draining => "このホストは停止処理中です",
        Code::Overloaded => "このホストの資源が不足しています",
        Code::AccountMaintenance => "kintone はメンテナンス中です",
        Code::UpstreamDns => "kintone の名前を解決できません。何も送信していません",
        Code::UpstreamConnect => "kintone に接続できません。何も送信していません",
        Code::UpstreamTls => "kintone との TLS 接続を信頼できません。何も送信していません",
        Code::UpstreamTimeout | Code::UpstreamReset
            if reason.detail() == Some(Detail::PeerLost) =>
        {
            "その IP アドレスを持つホストから応答がありません。実行結果は不明です"
        }
        Code::UpstreamTimeout => "kintone から時間内に応答がありません。実行結果は不明です",
        Code::UpstreamReset => "kintone との接続が切れました。実行結果は不明です",
        Code::Internal => "ゲートウェイの内部エラーです",
    };
    with_detail(text, reason.detail())
}

fn english_figures(code: Code, figures: QuotaFigures) -> String {
    let QuotaFigures {
        running,
        limit,
        queued,
        waited,
        ..
    } = figures;
    let waited_ms = waited.as_millis();
    if code == Code::RateLimited {
        return format!("the rate is used up, {queued} wait, waited {waited_ms} ms");
    }
    format!("{running} of {limit} permits in use, {queued} wait, waited {waited_ms} ms")
}

fn japanese_figures(code: Code, figures: QuotaFigures) -> String {
    let QuotaFigures {
        running,
        limit,
        queued,
        waited,
        ..
    } = figures;
    let waited_ms = waited.as_millis();
    if code == Code::RateLimited {
        return format!(
            "レートの上限に達しています（待機 {queued} 件、{waited_ms} ms 待ちました）"
        );
    }
    format!(
        "許可 {limit} 件中 {running} 件を使用中、{queued} 件が待機中、{waited_ms} ms 待ちました"
    )
}

fn figures(reason: Reason) -> Option<QuotaFigures> {
    match reason {
        Reason::Denied(denial) => denial.figures(),
        Reason::Failed(_) | Reason::Options(_) => None,
    }
}

const fn daily_figures(reason: Reason) -> Option<DailyFigures> {
    match reason {
        Reason::Denied(Denial::DailyBudget(figures)) => figures,
        Reason::Denied(_) | Reason::Failed(_) | Reason::Options(_) => None,
    }
}

/// The line that the account accepts and that cannot be used, and why.
const fn line_of(reason: Reason) -> Option<(Published, Detail)> {
    match reason {
        Reason::Denied(Denial::LineUnavailable { line, detail }) => Some((line, detail)),
        Reason::Denied(_) | Reason::Failed(_) | Reason::Options(_) => None,
    }
}

fn with_detail(text: &str, detail: Option<Detail>) -> String {
    match detail {
        Some(detail) => format!("{text} ({detail})"),
        None => text.to_owned(),
    }
}

fn must_english(reason: Reason, actor: Actor) -> String {
    if let Reason::Denied(Denial::AddressRefused(Refusing { missing, .. })) = reason {
        return format!("{actor} must allow {missing}/32 too");
    }
    let act = match (reason, actor) {
        (
            Reason::Denied(Denial::RateLimited(_) | Denial::QueueFull(_) | Denial::WaitExceeded(_)),
            _,
        ) => "slow down",
        (Reason::Denied(Denial::BadRequest { .. } | Denial::Misdirected), _)
        | (Reason::Options(_), _) => "correct the request",
        (Reason::Denied(Denial::AuthenticationRequired(_)), _) => "send its name and token",
        (Reason::Denied(Denial::Draining), _) => return "repeat the call".to_owned(),
        (Reason::Denied(Denial::AccountMaintenance(..)), _) => {
            return "repeat the call at retry_at".to_owned();
        }
        (_, Actor::Caller) => "change its call or ask the operators",
        (_, Actor::Customer) => "act",
        (_, Actor::Operator) => "look into it",
        (_, Actor::Kintone) => return "kintone is at fault or unreachable".to_owned(),
    };
    format!("{actor} must {act}")
}

fn must_japanese(reason: Reason, actor: Actor) -> String {
    if let Reason::Denied(Denial::AddressRefused(Refusing { missing, .. })) = reason {
        return format!("お客様の IP アドレス制限に {missing}/32 を追加する必要があります。");
    }
    match (reason, actor) {
        (Reason::Denied(Denial::Draining), _) => "再送してください。".to_owned(),
        (Reason::Denied(Denial::AccountMaintenance(..)), _) => {
            "retry_at の時刻以降に再送してください。".to_owned()
        }
        (_, Actor::Caller) => "呼び出し元での対応が必要です。".to_owned(),
        (_, Actor::Customer) => "お客様での対応が必要です。".to_owned(),
        (_, Actor::Operator) => "ゲートウェイの運用担当者での対応が必要です。".to_owned(),
        (_, Actor::Kintone) => "kintone 側の問題か、到達できません。".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_asked_for_most_is_spoken() {
        for (asked, spoken) in [
            ("ja", Language::Ja),
            ("JA-jp, en;q=0.9", Language::Ja),
            ("fr, ja;q=0.8, en;q=0.5", Language::Ja),
            ("en;q=0.1, ja", Language::Ja),
            ("en-US,en;q=0.9,ja;q=0.8", Language::En),
            ("ja;q=0, de", Language::En),
            ("ja;q=much", Language::En),
            ("jam", Language::En),
            ("*", Language::En),
            ("", Language::En),
        ] {
            let value = http::HeaderValue::from_static(asked);
            let headers = http::HeaderMap::from_iter([(http::header::ACCEPT_LANGUAGE, value)]);
            assert_eq!(Language::of(&headers), spoken, "{asked:?}");
        }
        assert_eq!(Language::of(&http::HeaderMap::new()), Language::En);
    }
}
