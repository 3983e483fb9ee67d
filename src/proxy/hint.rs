//! What to do about it: one sentence a code or cause, in English and Japanese, for the people whom
//! [`Actor`] names.

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::model::{Actor, Cause, Code, Detail};

/// A sentence in both languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) en: &'static str,
    pub(crate) ja: &'static str,
}

/// Who must act on a refusal or failure of the gateway.
pub(crate) const fn actor(code: Code, detail: Option<Detail>) -> Actor {
    match code {
        Code::BadRequest
        | Code::Misdirected
        | Code::AuthenticationRequired
        | Code::DestinationForbidden
        | Code::CallerForbidden
        | Code::RateLimited
        | Code::QueueFull
        | Code::WaitExceeded
        | Code::DailyBudget => match detail {
            Some(Detail::CallerDisabled | Detail::AccountDisabled | Detail::AddressForbidden) => {
                Actor::Operator
            }
            Some(_) | None => Actor::Caller,
        },
        Code::AccountUnknown => Actor::Customer,
        Code::EgressUnavailable if matches!(detail, Some(Detail::AddressRefused)) => {
            Actor::Customer
        }
        Code::EgressUnavailable
        | Code::Draining
        | Code::Overloaded
        | Code::UpstreamDns
        | Code::Internal => Actor::Operator,
        Code::UpstreamTimeout | Code::UpstreamReset => match detail {
            Some(Detail::PeerLost) => Actor::Operator,
            Some(_) | None => Actor::Kintone,
        },
        Code::AccountMaintenance | Code::UpstreamConnect | Code::UpstreamTls => Actor::Kintone,
    }
}

/// What to do about a refusal or failure of the gateway.
pub(crate) const fn of(code: Code, detail: Option<Detail>) -> Hint {
    match detail {
        Some(Detail::AddressRefused) => ALLOWLIST_LACKS_ONE,
        Some(_) | None => for_code(code),
    }
}

/// An allowlist that has one of our addresses and not all.
const ALLOWLIST_LACKS_ONE: Hint = Hint {
    en: "the customer's IP address restriction must allow all published addresses: add the one that \
         the message names and keep the others; nothing was sent to kintone",
    ja: "お客様の IP アドレス制限に、メッセージに記載のアドレスを追加してください（既存の設定はそのまま残してください）。kintone には何も送信していません。",
};

/// The same where nothing more is known than the code.
const fn for_code(code: Code) -> Hint {
    match code {
        Code::BadRequest => Hint {
            en: "correct the request; nothing was sent to kintone",
            ja: "リクエストを修正してください。kintone には何も送信していません。",
        },
        Code::Misdirected => Hint {
            en: "send Host with the name given to CONNECT",
            ja: "Host には CONNECT と同じ名前を指定してください。",
        },
        Code::AuthenticationRequired => Hint {
            en: "set the proxy user name and token that the operators gave to this service",
            ja: "運用担当者から発行されたプロキシのユーザー名とトークンを設定してください。",
        },
        Code::DestinationForbidden => Hint {
            en: "only kintone accounts (https://ACCOUNT.cybozu.com and the like, port 443) are \
                 reached through this gateway",
            ja: "このゲートウェイから接続できるのは kintone のドメイン（443 番ポート）だけです。",
        },
        Code::CallerForbidden => Hint {
            en: "ask the operators of the gateway for this right",
            ja: "この権限をゲートウェイの運用担当者に申請してください。",
        },
        Code::AccountUnknown => Hint {
            en: "check the subdomain with the customer; kintone does not know it, and nothing is sent \
                 to it until the operators confirm it",
            ja: "サブドメインをお客様に確認してください。kintone に存在しないため、運用担当者が確認するまで送信しません。",
        },
        Code::RateLimited | Code::QueueFull | Code::WaitExceeded => Hint {
            en: "send fewer calls at once, or allow a longer wait; nothing was sent to kintone",
            ja: "同時に送る件数を減らすか、待ち時間を長くしてください。kintone には何も送信していません。",
        },
        Code::DailyBudget => Hint {
            en: "the app's calls of today are used up; they start anew at 09:00 JST",
            ja: "このアプリの本日の API 実行回数を使い切りました。日本時間 9:00 に再開します。",
        },
        Code::EgressUnavailable => Hint {
            en: "no published address is usable on this host; see address_up and /readyz",
            ja: "このホストで使える公開 IP アドレスがありません。address_up と /readyz を確認してください。",
        },
        Code::Draining => Hint {
            en: "this host is shutting down; repeat the call, another host takes it",
            ja: "このホストは停止処理中です。再送すれば別のホストが処理します。",
        },
        Code::Overloaded => Hint {
            en: "this host is out of a local resource; see limit_hits_total",
            ja: "このホストの資源が不足しています。limit_hits_total を確認してください。",
        },
        Code::AccountMaintenance => Hint {
            en: "kintone is in maintenance; repeat the call at retry_at; nothing was sent",
            ja: "kintone はメンテナンス中です。retry_at の時刻以降に再送してください。何も送信していません。",
        },
        Code::UpstreamDns => Hint {
            en: "kintone's name could not be resolved; check the resolver of this host",
            ja: "kintone の名前を解決できません。このホストの DNS 設定を確認してください。",
        },
        Code::UpstreamConnect | Code::UpstreamTls => Hint {
            en: "kintone could not be reached; nothing was sent",
            ja: "kintone に接続できませんでした。何も送信していません。",
        },
        Code::UpstreamTimeout | Code::UpstreamReset => Hint {
            en: "whether kintone executed the call is unknown; read before you write again",
            ja: "kintone で実行されたかどうか不明です。再送の前に結果を確認してください。",
        },
        Code::Internal => Hint {
            en: "a fault of the gateway; report the request id to its operators",
            ja: "ゲートウェイの障害です。リクエスト ID を運用担当者に連絡してください。",
        },
    }
}

/// What to do about a failure that kintone reported; `None` where it depends on the configuration
/// (`allowlist`).
pub(crate) const fn for_cause(cause: Cause) -> Option<Hint> {
    Some(match cause {
        Cause::IpNotAllowlisted => return None,
        Cause::AccountConcurrency => Hint {
            en: "the account has too many calls running, others than ours among them; slow down",
            ja: "アカウント全体の同時リクエスト数が上限に達しています。送信を減らしてください。",
        },
        Cause::CursorCapacity => Hint {
            en: "all cursors of the account are in use; delete those that are done",
            ja: "カーソルの上限に達しています。不要なカーソルを削除してください。",
        },
        Cause::Authentication => Hint {
            en: "kintone does not accept the user, password or API token; do not repeat the call",
            ja: "kintone のユーザー、パスワードまたは API トークンが正しくありません。再送しないでください。",
        },
        Cause::Permission => Hint {
            en: "the kintone user or API token lacks a right; the customer grants it in the app",
            ja: "kintone のユーザーまたは API トークンに権限がありません。アプリの設定で付与してください。",
        },
        Cause::NotFound => Hint {
            en: "the app, record or file is gone; check the numbers in the settings",
            ja: "アプリ、レコードまたはファイルが見つかりません。設定の番号を確認してください。",
        },
        Cause::AccountUnknown => Hint {
            en: "kintone does not know this subdomain or path; check the subdomain",
            ja: "kintone にこのサブドメインまたはパスがありません。サブドメインを確認してください。",
        },
        Cause::Conflict => Hint {
            en: "somebody else changed the record; read it again and repeat",
            ja: "他の人がレコードを更新しました。読み直してから再送してください。",
        },
        Cause::DatabaseLock => Hint {
            en: "kintone's database was busy; repeat the call after a second",
            ja: "kintone のデータベースが混み合っています。少し待って再送してください。",
        },
        Cause::Maintenance => Hint {
            en: "kintone is in maintenance or overloaded; repeat the call later",
            ja: "kintone がメンテナンス中か過負荷です。しばらくしてから再送してください。",
        },
        Cause::UpstreamError => Hint {
            en: "kintone failed; whether it executed the call is unknown",
            ja: "kintone でエラーが発生しました。実行されたかどうかは不明です。",
        },
        Cause::Unclassified => Hint {
            en: "see kintone's own message in the body",
            ja: "本文の kintone のメッセージを確認してください。",
        },
    })
}

/// What must not stand in a header raw: controls and everything above ASCII, and the escape itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%').add(b'"');

/// An English hint as the value of a header.
pub(crate) fn line_en(hint: &str) -> HeaderValue {
    HeaderValue::from_str(hint).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

/// A Japanese hint as the value of a header: percent-encoded UTF-8.
pub(crate) fn line_ja(hint: &str) -> HeaderValue {
    let encoded: String = utf8_percent_encode(hint, ENCODED).collect();
    line_en(&encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_fit_for_a_header() {
        let causes = Cause::ALL.iter().filter_map(|cause| for_cause(*cause));
        let codes = Code::ALL.into_iter().map(for_code);
        for hint in codes.chain(causes).chain([ALLOWLIST_LACKS_ONE]) {
            assert!(HeaderValue::from_str(hint.en).is_ok(), "{}", hint.en);
            assert!(!hint.en.contains("  "), "{}", hint.en);
            assert!(hint.ja.ends_with('。'), "{}", hint.ja);
        }
    }
}
