//! Letters in Japanese.

use super::announce::Planned;
use super::letter::{Customers, Held, House, News, Paragraphs, When};
use super::matter::{Matter, Subject};
use crate::kintone::help;

/// What is wrong, for the subject.
pub(super) fn topic(news: &News<'_>) -> String {
    if matches!(news.turn, When::Ends { .. }) {
        return topic_over(&news.subject.matter);
    }
    match &news.subject.matter {
        Matter::AddressRefused(address) => format!("{address}/32 が許可されていません"),
        Matter::CredentialsRefused(_) => "kintone にログインできません".to_owned(),
        Matter::BudgetNear => "本日の API リクエスト数が上限に近づいています".to_owned(),
        Matter::LimitFull(_) => "同時リクエスト数の上限に達しています".to_owned(),
        Matter::AccountUnknown(_) => "kintone にこのサブドメインがありません".to_owned(),
        Matter::Maintenance => "kintone がメンテナンス中です".to_owned(),
        Matter::AddressWrong(address) => {
            format!("{address} が拒否され、このアドレスを確認できません")
        }
        Matter::Broken(code) => format!("{} が続いています", code.name()),
    }
}

fn topic_over(matter: &Matter) -> String {
    match matter {
        Matter::AddressRefused(address) => format!("{address}/32 が許可されました"),
        Matter::CredentialsRefused(_) => "kintone にログインできるようになりました".to_owned(),
        Matter::BudgetNear => "API リクエスト数の新しい 1 日が始まりました".to_owned(),
        Matter::LimitFull(_) => "同時リクエスト数が上限を下回りました".to_owned(),
        Matter::AccountUnknown(_) => "このサブドメインに接続できるようになりました".to_owned(),
        Matter::Maintenance => "kintone のメンテナンスが終わりました".to_owned(),
        Matter::AddressWrong(address) => format!("{address} から再び接続できます"),
        Matter::Broken(code) => format!("{} は収まりました", code.name()),
    }
}

pub(super) fn since(time: &str) -> String {
    format!("{time} から続いています。")
}

pub(super) fn from_to(since: &str, well_since: &str) -> String {
    format!("{since} から {well_since} まで続きました。")
}

/// What operators are told when the mails of a cause are held.
pub(super) fn held(cause: &str, accounts: usize, at: &str, host: &str, is_held: Held) -> String {
    let what = match is_held {
        Held::Customers => format!(
            "お客様への通知は保留しています。原因が自社側にないことを確認してから、次のどちらかを実行してください。\n\n  \
             kintone-egress notify release --config FILE {cause}\n  \
             kintone-egress notify drop --config FILE {cause}\n"
        ),
        Held::Nobody => format!(
            "アカウントごとの通知は止めています。再開するには次を実行してください。\n\n  \
             kintone-egress notify release --config FILE {cause}\n"
        ),
    };
    format!(
        "ホスト {host}、{at}: {accounts} アカウントで {cause} がほぼ同時に始まりました。自社側の障害の可能性があります。\n\
         {what}"
    )
}

/// What only operators are told.
pub(super) fn to_operators(news: &News<'_>) -> String {
    let mut told = format!("(運用担当者向け) ホスト: {}\n", news.house.host);
    if news.subject.matter.concerns_customers() {
        told += &match news.customers {
            Customers::NoContacts => {
                "(運用担当者向け) 連絡先が未登録のため、お客様には通知していません\n".to_owned()
            }
            Customers::NoMail => {
                "(運用担当者向け) メールサーバーが未設定のため、お客様には通知していません\n"
                    .to_owned()
            }
            Customers::NotTold => {
                "(運用担当者向け) 発生時にお客様へ通知していないため、復旧も通知しません\n"
                    .to_owned()
            }
            Customers::Told(count) => {
                format!("(運用担当者向け) 同じ内容をお客様の連絡先 {count} 件に送ります\n")
            }
        };
    }
    if let Some(tenant) = news.subject.matter.tenant() {
        told += &format!("(運用担当者向け) テナント: {tenant}\n");
    }
    told
}

/// What happens, its effect, what to do, where.
pub(super) fn paragraphs(news: &News<'_>) -> Paragraphs {
    let account = news.subject.account.as_ref();
    let account = account.map_or_else(|| "kintone".to_owned(), ToString::to_string);
    if matches!(news.turn, When::Ends { .. }) {
        return Paragraphs {
            what: format!("{account}: {}。", topic(news)),
            effect: "連携は通常どおり動いています。".to_owned(),
            action: "対応は必要ありません。ご協力ありがとうございました。".to_owned(),
            place: "設定を変更する場所はありません。".to_owned(),
        };
    }
    match &news.subject.matter {
        Matter::AddressRefused(address) => refused(news, &account, &address.to_string()),
        Matter::CredentialsRefused(_) => credentials(&account),
        Matter::BudgetNear => budget(news, &account),
        Matter::LimitFull(_) => limit(&account),
        Matter::AccountUnknown(_) => unknown(&account),
        Matter::Maintenance | Matter::AddressWrong(_) | Matter::Broken(_) => {
            of_operators(news, &account)
        }
    }
}

/// The subject of an announcement.
pub(super) fn announcement_subject(planned: Planned) -> String {
    format!(
        "【要対応】kintone連携: {}/32 を追加してください",
        planned.address
    )
}

/// From when an address is used, and the paragraphs of its announcement.
pub(super) fn announcement(
    subject: &Subject,
    planned: Planned,
    house: &House,
) -> (String, Paragraphs) {
    let Planned { address, from } = planned;
    let account = subject.account.as_ref();
    let page = account.map_or(help::RESTRICTIONS_CYBOZU, help::ip_restrictions);
    let account = account.map_or_else(|| "お客様の kintone".to_owned(), ToString::to_string);
    let when = match from {
        Some(from) => format!(
            "{} 0:00(日本時間)から使用します。",
            from.strftime("%Y年%-m月%-d日")
        ),
        None => "使用を始める日は決まり次第お知らせします。".to_owned(),
    };
    let paragraphs = Paragraphs {
        what: format!("この連携が kintone への接続に使う IP アドレスに {address} を加えます。"),
        effect: format!(
            "{account} で IP アドレス制限を使っている場合、追加がないと {address} からのリクエストが拒否されます。\
             制限を使っていない場合、影響はありません。"
        ),
        action: format!(
            "それまでに、許可する IP アドレスに次の行を追加してください。すでにある行は削除せず、そのまま残してください。\n\
             \n  {address}/32\n"
        ),
        place: format!(
            "cybozu.com の管理画面の「IPアドレス制限」で設定します(管理者の権限が必要です)。\n{}\n{}",
            page.ja,
            house.page.as_deref().unwrap_or_default()
        ),
    };
    (when, paragraphs)
}

fn refused(news: &News<'_>, account: &str, address: &str) -> Paragraphs {
    let page = news.subject.account.as_ref().map(help::ip_restrictions);
    let page = page.unwrap_or(help::RESTRICTIONS_CYBOZU);
    let ours = news.house.page.as_ref();
    let ours = ours.map_or_else(String::new, |page| {
        format!("使用する IP アドレスの一覧と設定例: {page}\n")
    });
    Paragraphs {
        what: format!(
            "{account} の kintone が、IP アドレス {address} からの接続を拒否しています。\
             IP アドレス制限で {address}/32 が許可されていないと考えられます。"
        ),
        effect: format!(
            "{address} から送信するリクエストは kintone に届いていません。拒否されたリクエストは kintone で実行されていません。"
        ),
        action: format!(
            "許可する IP アドレスに次の行を追加してください。すでにある行は削除せず、そのまま残してください。\n\
             \n  {address}/32\n\n\
             この連携は次のアドレスをすべて使います。登録されていない行があれば、あわせて追加してください。\n\n{}\n\
             「すべて拒否」では接続できません。「一部許可」を選んでください。",
            news.house.lines()
        ),
        place: format!(
            "cybozu.com の管理画面の「IPアドレス制限」で設定します(管理者の権限が必要です)。\n\
             {}\n{ours}",
            page.ja
        ),
    }
}

fn credentials(account: &str) -> Paragraphs {
    Paragraphs {
        what: format!(
            "{account} の kintone が、連携に登録されているログイン名とパスワード、または API トークンを受け付けません。"
        ),
        effect: "この連携のリクエストは認証で拒否され、実行されていません。誤ったパスワードでの接続が続くと、\
                 kintone のユーザーがロックされることがあります。"
            .to_owned(),
        action: "kintone でユーザーが有効であること、パスワードまたは API トークンが変更・削除されていないことを確認し、\
                 正しいものを連携の設定に登録してください。"
            .to_owned(),
        place: "kintone の「cybozu.com共通管理」(ユーザー)とアプリの設定(APIトークン)、および連携サービスの設定画面です。"
            .to_owned(),
    }
}

fn budget(news: &News<'_>, account: &str) -> Paragraphs {
    let used = news.budget.map_or_else(String::new, |(app, percent)| {
        format!("アプリ {app} では上限の {percent} % に達しました。")
    });
    Paragraphs {
        what: format!(
            "{account} で、1 日に実行できる API リクエスト数の上限に近づいています。{used}"
        ),
        effect: "上限を超えると、リクエストが実行されなくなるか、Cybozu から連絡を受けることがあります。\
                 回数は毎日 9:00(日本時間)に数え直されます。"
            .to_owned(),
        action: "このアプリを使うほかの連携や一括処理の回数を減らすか、実行を 9:00(日本時間)以降に移してください。"
            .to_owned(),
        place: format!("API リクエスト数の上限: {}", help::LIMITS.ja),
    }
}

fn limit(account: &str) -> Paragraphs {
    Paragraphs {
        what: format!(
            "{account} で、同時に実行できるリクエスト数の上限に達した状態が続いています。"
        ),
        effect: "リクエストが順番を待っています。待ちきれなかったリクエストは送信されず、実行されていません。".to_owned(),
        action: "同じ時間帯に動くほかの連携、プラグイン、一括処理を減らすか、時間をずらしてください。".to_owned(),
        place: format!("同時リクエスト数の上限: {}", help::LIMITS.ja),
    }
}

fn unknown(account: &str) -> Paragraphs {
    Paragraphs {
        what: format!("kintone に {account} というサブドメインがありません。"),
        effect: "この連携のリクエストは kintone に届いていません。".to_owned(),
        action: "サブドメインが変更または解約されていないかを確認し、正しいサブドメインを連携の設定に登録してください。"
            .to_owned(),
        place: "連携サービスの設定画面の、サブドメインの欄です。".to_owned(),
    }
}

fn of_operators(news: &News<'_>, account: &str) -> Paragraphs {
    Paragraphs {
        what: format!("{account}: {}。", topic(news)),
        effect: "リクエストが失敗しています。お客様には通知していません。".to_owned(),
        action: format!(
            "メトリクス、/readyz、アクセスログ(cause: {})を確認してください。",
            news.subject.matter.cause()
        ),
        place: format!("ホスト {} の管理リスナーです。", news.house.host),
    }
}
