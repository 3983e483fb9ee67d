//! `explain --mode inspect` decides as the gateway does.

use http::{HeaderValue, Method};
use kintone_egress::config::file::{Environment, Loaded, load};
use kintone_egress::operator::explain::{Explainer, Mode, Question};

use crate::support::caller::{Caller, read};
use crate::support::inspect::PrivateCa;
use crate::support::{ACME, House, Plan, TOKEN, house};

/// Caller, tenant, method, host, path.
const CASES: [(&str, &str, &str, &str, &str); 12] = [
    ("events", "", "GET", ACME, "/k/v1/records.json?app=1"),
    (
        "events",
        "t1",
        "DELETE",
        "ACME.cybozu.com",
        "/k/v1/records.json",
    ),
    ("events", "t 1", "GET", ACME, "/"),
    ("events", "", "TRACE", ACME, "/"),
    ("events", "", "OPTIONS", ACME, "/k/v1/records.json"),
    ("events;priority=x", "", "GET", ACME, "/"),
    ("nobody", "", "GET", ACME, "/"),
    ("events", "", "GET", "www.example.com", "/"),
    ("events", "", "GET", "shut.cybozu.com", "/"),
    ("narrow", "", "GET", "beta.cybozu.com", "/"),
    ("narrow", "t1", "GET", ACME, "/.kintone-egress/me"),
    ("narrow", "t2", "GET", ACME, "/"),
];

/// The gateway's own code for the call; `None` where it is kintone that answers.
async fn live(
    house: &House,
    ca: &PrivateCa,
    case: (&str, &str, &str, &str, &str),
) -> Option<String> {
    let (user, tenant, method, host, path) = case;
    let token = if user.starts_with("narrow") {
        "canary-narrow"
    } else {
        TOKEN
    };
    let caller = house.caller_as(user, token).trusting(&ca.pem);
    let code = |body: &[u8]| {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        code.starts_with("GW_").then_some(code)
    };
    let tls = match caller.offering(&[b"http/1.1"]).open_tunnel(host).await {
        Ok(tunnel) => {
            let caller = house.caller_as(user, token).trusting(&ca.pem);
            caller
                .tls(tunnel, &host.to_ascii_lowercase())
                .await
                .unwrap()
        }
        Err(refused) => return code(&refused.body),
    };
    let mut sender = Caller::h1_over(tls).await;
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = Caller::inner(method, host, path, "");
    if !tenant.is_empty() {
        let tenant = HeaderValue::from_str(tenant).unwrap();
        request
            .headers_mut()
            .insert("kintone-egress-tenant", tenant);
    }
    let answer = read(sender.send_request(request).await.unwrap())
        .await
        .unwrap();
    code(&answer.body)
}

#[tokio::test]
async fn what_is_explained_is_what_happens() {
    let ca = PrivateCa::new();
    let narrow = kintone_egress::config::token::hash_token(b"canary-narrow").to_hex();
    let plan = Plan {
        tables: format!(
            "{}[[caller]]\nname = \"narrow\"\ntoken_sha256 = \"{narrow}\"\n\
             accounts = [\"acme.cybozu.com\"]\ntenants = [\"t1\"]\n\
             [account.\"shut.cybozu.com\"]\nenabled = false\n",
            ca.table()
        ),
        ..Plan::default()
    };
    house(plan, async |house| {
        let loaded = load(&house.config_path, &Environment::default());
        let Loaded { config, .. } = loaded.expect("a good configuration");
        let explainer = Explainer::new(config.into());
        for case in CASES {
            let (user, tenant, method, host, path) = case;
            let explanation = explainer.explain(&Question {
                user: user.to_owned(),
                tenant: Some(tenant.to_owned()).filter(|tenant| !tenant.is_empty()),
                mode: Some(Mode::Inspect),
                from: None,
                method: method.to_owned(),
                url: format!("https://{host}{path}"),
            });
            let explained = explanation.refused().map(|code| code.name().to_owned());
            assert_eq!(
                explained,
                live(&house, &ca, case).await,
                "{case:?}\n{explanation}"
            );
            if explained.is_none() {
                let text = explanation.to_string();
                assert!(text.contains("inspected"), "{text}");
            }
        }
    })
    .await;
}
