use super::*;
use crate::model::{Account, Code, Tenant};

fn house(language: Language) -> House {
    House {
        language,
        addresses: vec![
            Published([18, 177, 83, 94].into()),
            Published([35, 73, 236, 241].into()),
        ],
        service: Some("電話サービス".to_owned()),
        contact: "support@service.example".to_owned(),
        page: Some("https://service.example/kintone/".to_owned()),
        host: "gw-a".to_owned(),
    }
}

fn since() -> Timestamp {
    "2026-11-26T02:05:10Z".parse().unwrap()
}

fn about(account: &str, matter: Matter) -> Subject {
    Subject {
        account: Some(Account::from_normal(account)),
        matter,
    }
}

fn letter(subject: &Subject, turn: When, audience: Audience, house: &House) -> Letter {
    write(&News {
        subject,
        turn,
        audience,
        budget: Some((AppId(12), 80)),
        customers: Customers::Told(1),
        house,
    })
}

fn refused(account: &str) -> Subject {
    about(
        account,
        Matter::AddressRefused(Published([18, 177, 83, 94].into())),
    )
}

/// Everything that customers may be told.
fn for_customers() -> Vec<Letter> {
    let tenant = Tenant::parse("secret-tenant").ok();
    let matters = [
        refused("acme.cybozu.com").matter,
        Matter::CredentialsRefused(tenant.clone()),
        Matter::BudgetNear,
        Matter::LimitFull(tenant.clone()),
        Matter::AccountUnknown(tenant),
    ];
    let well_since = since();
    let turns = [
        When::Begins(since()),
        When::Ends {
            since: since(),
            well_since,
        },
    ];
    let house = house(Language::Ja);
    let mut letters = Vec::new();
    for matter in matters {
        for turn in turns {
            let subject = about("acme.cybozu.com", matter.clone());
            letters.push(letter(&subject, turn, Audience::Customers, &house));
        }
    }
    letters
}

#[test]
fn the_subject_is_what_to_do_and_the_body_goes_from_what_to_whom() {
    let subject = refused("acme.cybozu.com");
    let begins = When::Begins(since());
    let told = letter(&subject, begins, Audience::Customers, &house(Language::Ja));
    assert_eq!(
        told.subject,
        "【要対応】kintone連携: 18.177.83.94/32 が許可されていません(acme.cybozu.com)"
    );
    let reference = reference(&subject, since());
    let mut rest = told.body.as_str();
    for part in [
        "■ 何が起きているか\nacme.cybozu.com の kintone が",
        "■ いつから\n2026-11-26 11:05 JST から",
        "■ 影響",
        "■ 対応のお願い",
        "\n  18.177.83.94/32\n",
        "\n  18.177.83.94/32\n  35.73.236.241/32\n",
        "■ 設定する場所",
        "https://jp.cybozu.help/general/ja/admin/list_security/list_access/ip_restrictions.html\n",
        "https://service.example/kintone/\n",
        "■ お問い合わせ先\n電話サービス: support@service.example\n",
        &format!("■ 参照番号\n{reference}\n"),
        "* What happens\nThe kintone of acme.cybozu.com",
        "Keep the lines that are there.",
        &format!("* Reference\n{reference}\n"),
    ] {
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| panic!("{part:?} is missing or misplaced:\n{}", told.body));
        rest = &rest[at + part.len()..];
    }
    assert!(told.body.contains("すでにある行は削除せず"));
}

#[test]
fn customers_read_of_no_tenant_and_are_led_nowhere_else() {
    let letters = for_customers();
    assert_eq!(letters.len(), 10);
    for Letter { subject, body } in letters {
        for secret in ["secret-tenant", "gw-a", "GW_", "運用担当者"] {
            assert!(
                !body.contains(secret) && !subject.contains(secret),
                "{secret}: {body}"
            );
        }
        for (at, _) in body.match_indices("http") {
            let link = &body[at..];
            let ours = link.starts_with("https://service.example/kintone/");
            let help = link.starts_with("https://jp.cybozu.help/");
            assert!(ours || help, "{}", &link[..60.min(link.len())]);
        }
        assert!(body.ends_with('\n') && !subject.contains('\n'));
        assert!(!body.contains("\n\n\n"), "{body}");
    }
}

#[test]
fn operators_read_whose_calls_they_are() {
    let matter = Matter::CredentialsRefused(Tenant::parse("one").ok());
    let subject = about("acme.cybozu.com", matter);
    let begins = When::Begins(since());
    let told = letter(&subject, begins, Audience::Operators, &house(Language::En));
    assert!(
        told.body.starts_with("(for operators) host: gw-a\n"),
        "{}",
        told.body
    );
    assert!(told.body.contains("tenant: one\n"), "{}", told.body);
    assert_eq!(
        told.subject,
        "[Action required] kintone integration: kintone refuses the credentials (acme.cybozu.com)"
    );
    assert!(!told.body.contains('■'), "English alone");
    let own = Subject {
        account: None,
        matter: Matter::Broken(Code::EgressUnavailable),
    };
    let told = letter(&own, begins, Audience::Operators, &house(Language::Ja));
    assert_eq!(
        told.subject,
        "【運用】kintone連携: GW_EGRESS_UNAVAILABLE が続いています"
    );
}

#[test]
fn kintone_com_has_a_help_of_its_own() {
    let told = letter(
        &refused("acme.kintone.com"),
        When::Begins(since()),
        Audience::Customers,
        &house(Language::Ja),
    );
    assert!(told.body.contains("https://get.kintone.help/general/ja/"));
    assert!(!told.body.contains("jp.cybozu.help"));
}

#[test]
fn a_reference_tells_episodes_apart() {
    let one = reference(&refused("acme.cybozu.com"), since());
    assert_eq!(one.len(), "KE-00000000".len());
    assert_eq!(one, reference(&refused("acme.cybozu.com"), since()));
    assert_ne!(one, reference(&refused("other.cybozu.com"), since()));
    let later = since() + jiff::SignedDuration::from_secs(60);
    assert_ne!(one, reference(&refused("acme.cybozu.com"), later));
}

#[test]
fn operators_read_whether_the_customer_is_told_too() {
    let (subject, house) = (refused("acme.cybozu.com"), house(Language::Ja));
    for (customers, ja, en) in [
        (
            Customers::Told(2),
            "連絡先 2 件に送ります",
            "2 contacts of the customer",
        ),
        (
            Customers::NoContacts,
            "連絡先が未登録",
            "no contacts are configured",
        ),
        (
            Customers::NoMail,
            "メールサーバーが未設定",
            "no mail server is configured",
        ),
        (
            Customers::NotTold,
            "復旧も通知しません",
            "so none is of the end",
        ),
    ] {
        let told = write(&News {
            subject: &subject,
            turn: When::Begins(since()),
            audience: Audience::Operators,
            budget: None,
            customers,
            house: &house,
        });
        assert!(told.body.contains(ja), "{}", told.body);
        assert!(told.body.contains(en), "{}", told.body);
    }
}
