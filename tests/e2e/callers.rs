//! Who may do what, and how a refusal reads.

use http::{Method, StatusCode};

use crate::support::caller::{Caller, ask_raw};
use crate::support::invariants::check_refusal;
use crate::support::{ACME, House, Plan, TOKEN, basic, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// A caller's table: its name, [`TOKEN`]'s hash under a new name, and more lines.
fn caller_table(name: &str, token: &str, lines: &str) -> String {
    let hash = kintone_egress::config::token::hash_token(token.as_bytes()).to_hex();
    format!("[[caller]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\n{lines}\n")
}

/// The token of the caller `name` of [`caller_table`]s here: no two callers share one.
fn token_of(name: &str) -> String {
    format!("canary-{name}-77")
}

fn caller_of(house: &House, name: &str) -> Caller {
    let name = name.split(['+', ';']).next().unwrap();
    house.caller_as(name, &token_of(name))
}

#[tokio::test]
async fn every_way_to_say_it_wrong_is_407() {
    house(Plan::default(), async |house| {
        let good = basic("events");
        let line = |value: &str| format!("Proxy-Authorization: {value}\r\n");
        for (credentials, detail) in [
            (String::new(), "no_credentials"),
            (line("Basic ZXZlbnRzOndyb25n"), "wrong_token"),
            (line("Basic ZXZlbnRzOg=="), "wrong_token"),
            (line("Basic bm9ib2R5OnRva2Vu"), "unknown_caller"),
            (line("Basic %%%"), "credentials_unreadable"),
            (line("Basic ZXZlbnRz"), "credentials_unreadable"),
            (line("Bearer abc"), "credentials_unreadable"),
            (line("Basic"), "credentials_unreadable"),
            (
                format!("{}{}", line(&good), line(&good)),
                "credentials_unreadable",
            ),
        ] {
            for request in [
                format!("GET {RECORDS} HTTP/1.1"),
                format!("CONNECT {ACME}:443 HTTP/1.1"),
            ] {
                let head = format!("{request}\r\nHost: {ACME}\r\n{credentials}\r\n");
                let answer = ask_raw(house.proxy, head.as_bytes()).await;
                check_refusal(
                    &answer,
                    407,
                    "GW_AUTHENTICATION_REQUIRED",
                    "http_request_denied",
                );
                assert_eq!(
                    answer.header("proxy-authenticate"),
                    "Basic realm=\"kintone-egress\""
                );
                let log = house.output.line_of(answer.id()).await;
                assert_eq!(log["detail"], detail, "{credentials}");
                assert_eq!(log["status"], 407);
                assert!(log["account"].is_null(), "nobody's account is told: {log}");
            }
        }
        for (reason, times) in [
            ("no_credentials", 2.0),
            ("wrong_token", 4.0),
            ("credentials_unreadable", 10.0),
        ] {
            let sample =
                format!("kintone_egress_authentication_failures_total{{reason=\"{reason}\"}}");
            assert_eq!(house.metric(&sample).await, Some(times), "{reason}");
        }
        let sample = "kintone_egress_requests_total{caller=\"unknown\",mode=\"forward\",\
                      outcome=\"authentication_required\"}";
        assert_eq!(house.metric(sample).await, Some(9.0));
        assert!(house.sim.ledger().sockets.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_connection_lives_on_after_407_as_clients_expect() {
    house(Plan::default(), async |house| {
        let mut sender = house.nobody().connect().await;
        let refused = sender.send_request(house.nobody().request(Method::GET, RECORDS, ""));
        assert_eq!(refused.await.unwrap().status(), 407);
        sender.ready().await.unwrap();
        let answer = sender.send_request(house.caller().request(Method::GET, RECORDS, ""));
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn old_and_new_tokens_are_told_apart() {
    let hash = |token: &str| kintone_egress::config::token::hash_token(token.as_bytes()).to_hex();
    let tables = format!(
        "[[caller]]\nname = \"rotating\"\ntoken_sha256 = [\"{}\", \"{}\"]",
        hash("canary-old"),
        hash("canary-new")
    );
    house(
        Plan {
            tables,
            ..Plan::default()
        },
        async |house| {
            for (token, number) in [
                ("canary-old", "1"),
                ("canary-new", "2"),
                ("canary-new", "2"),
            ] {
                let answer = house.caller_as("rotating", token).get(RECORDS).await;
                assert_eq!(answer.status, StatusCode::OK);
                let line = house.output.line_of(answer.id()).await;
                assert_eq!(
                    (&line["credential"], &line["caller"]),
                    (&number.into(), &"rotating".into())
                );
            }
            for (credential, times) in [("1", 1.0), ("2", 2.0)] {
                let sample = format!(
                    "kintone_egress_caller_authentications_total{{caller=\"rotating\",\
                 credential=\"{credential}\"}}"
                );
                assert_eq!(house.metric(&sample).await, Some(times));
            }
        },
    )
    .await;
}

#[tokio::test]
async fn rights_are_judged_alike_in_both_modes() {
    let mut tables = String::new();
    for (name, lines) in [
        ("disabled", "enabled = false"),
        ("elsewhere", "networks = [\"10.0.0.0/8\"]"),
        ("here", "networks = [\"10.0.0.0/8\", \"127.0.0.0/8\"]"),
        ("com", "accounts = [\"*.kintone.com\"]"),
        ("named", "accounts = [\"acme.cybozu.com\"]"),
        ("tenants", "tenants = [\"company-1\"]"),
        ("tunnels", "modes = [\"tunnel\"]"),
        ("forwards", "modes = [\"forward\"]"),
    ] {
        tables.push_str(&caller_table(name, &token_of(name), lines));
    }
    tables.push_str("[account.\"closed.cybozu.com\"]\nenabled = false\n");
    house(
        Plan {
            tables,
            ..Plan::default()
        },
        async |house| {
            for (caller, host, forward, tunnel) in [
                ("disabled", ACME, "caller_disabled", "caller_disabled"),
                ("elsewhere", ACME, "network_forbidden", "network_forbidden"),
                ("here", ACME, "", ""),
                ("com", ACME, "account_forbidden", "account_forbidden"),
                ("named", ACME, "", ""),
                (
                    "named",
                    "acme.kintone.com",
                    "account_forbidden",
                    "account_forbidden",
                ),
                ("tunnels", ACME, "mode_forbidden", ""),
                ("forwards", ACME, "", "mode_forbidden"),
                (
                    "here",
                    "closed.cybozu.com",
                    "account_disabled",
                    "account_disabled",
                ),
                // The table's account, whatever its spelling and door.
                ("named", "ACME.cybozu.com", "", ""),
                (
                    "here",
                    "closed.s.cybozu.com",
                    "client_certificate_host",
                    "account_disabled",
                ),
            ] {
                let of = caller_of(&house, caller);
                let answer = of
                    .get(&format!("https://{host}/k/v1/records.json?app=1"))
                    .await;
                if forward.is_empty() {
                    assert_eq!(answer.status, StatusCode::OK, "{caller} {host}");
                } else {
                    let code = if forward == "client_certificate_host" {
                        "GW_DESTINATION_FORBIDDEN"
                    } else {
                        "GW_CALLER_FORBIDDEN"
                    };
                    check_refusal(&answer, 403, code, "http_request_denied");
                    assert_eq!(house.output.line_of(answer.id()).await["detail"], forward);
                }
                match of.open_tunnel(host).await {
                    Ok(_) => assert!(tunnel.is_empty(), "{caller} {host}: expected {tunnel}"),
                    Err(answer) => {
                        check_refusal(&answer, 403, "GW_CALLER_FORBIDDEN", "http_request_denied");
                        assert_eq!(answer.header("connection"), "close");
                        let line = house.output.line_of(answer.id()).await;
                        assert_eq!(
                            (&line["detail"], &line["mode"]),
                            (&tunnel.into(), &"tunnel".into())
                        );
                        assert_eq!(line["caller"], caller);
                    }
                }
            }
            for (user, status) in [
                ("tenants", 200),
                ("tenants+company-1", 200),
                ("tenants+company-2", 403),
            ] {
                let answer = house
                    .caller_as(user, &token_of("tenants"))
                    .get(RECORDS)
                    .await;
                assert_eq!(answer.status, status, "{user}");
            }
            let refused = house.metric(
                "kintone_egress_requests_total{caller=\"disabled\",mode=\"tunnel\",\
             outcome=\"caller_forbidden\"}",
            );
            assert_eq!(refused.await, Some(1.0));
        },
    )
    .await;
}

#[tokio::test]
async fn only_configured_accounts_are_reached_where_it_says_so() {
    let tables = format!("[account.\"{ACME}\"]\nconcurrency = 50\n");
    let upstream = "accounts = \"configured\"".into();
    house(
        Plan {
            tables,
            upstream,
            ceiling: 30,
            ..Plan::default()
        },
        async |house| {
            assert_eq!(house.caller().get(RECORDS).await.status, StatusCode::OK);
            let answer = house
                .caller()
                .get("https://other.cybozu.com/k/v1/apps.json")
                .await;
            check_refusal(
                &answer,
                403,
                "GW_DESTINATION_FORBIDDEN",
                "http_request_denied",
            );
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(line["detail"], "account_not_configured");
            let tunnel = house
                .caller()
                .open_tunnel("other.cybozu.com")
                .await
                .unwrap_err();
            check_refusal(
                &tunnel,
                403,
                "GW_DESTINATION_FORBIDDEN",
                "http_request_denied",
            );
            assert!(
                house
                    .caller()
                    .open_tunnel("acme.s.cybozu.com")
                    .await
                    .is_ok()
            );
            let sockets = house.sim.ledger().sockets;
            assert!(
                sockets
                    .iter()
                    .all(|socket| socket.sni.as_deref() != Some("other.cybozu.com"))
            );
        },
    )
    .await;
}

#[tokio::test]
async fn a_network_can_be_who_calls() {
    let tables = "[[caller]]\nname = \"lan\"\nnetworks = [\"127.0.0.0/8\"]\npriority = \"batch\"\n";
    house(
        Plan {
            tables: tables.into(),
            ..Plan::default()
        },
        async |house| {
            let answer = house.nobody().get(RECORDS).await;
            assert_eq!(answer.status, StatusCode::OK);
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(
                (&line["caller"], &line["credential"], &line["priority"]),
                (&"lan".into(), &"network".into(), &"batch".into())
            );
            let named = house.caller_as("lan+company-1", "").get(RECORDS).await;
            assert_eq!(
                house.output.line_of(named.id()).await["tenant"],
                "company-1"
            );
            let wrong = house.caller_as("lan", "a-token").get(RECORDS).await;
            assert_eq!(wrong.status, 407);
        },
    )
    .await;
}

#[tokio::test]
async fn a_network_is_not_enough_where_a_certificate_is_asked_for() {
    let tables = "[[caller]]\nname = \"sealed\"\ncertificate = \"spiffe://prod/sealed\"\n\
                  networks = [\"127.0.0.0/8\"]\n";
    house(
        Plan {
            tables: tables.into(),
            ..Plan::default()
        },
        async |house| {
            for caller in [house.nobody(), house.caller_as("sealed", "")] {
                let refused = caller.get(RECORDS).await;
                check_refusal(
                    &refused,
                    407,
                    "GW_AUTHENTICATION_REQUIRED",
                    "http_request_denied",
                );
            }
        },
    )
    .await;
}

#[tokio::test]
async fn anonymous_callers_come_in_only_without_credentials() {
    let tables = "[callers]\nanonymous = true\n".into();
    house(
        Plan {
            tables,
            ..Plan::default()
        },
        async |house| {
            let answer = house.nobody().get(RECORDS).await;
            assert_eq!(answer.status, StatusCode::OK);
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(line["caller"], "anonymous");
            assert!(line["credential"].is_null());
            for caller in [
                house.caller_as("events", "wrong"),
                house.caller_as("who", TOKEN),
            ] {
                assert_eq!(
                    caller.get(RECORDS).await.status,
                    407,
                    "wrong ones are refused all the same"
                );
                assert_eq!(caller.open_tunnel(ACME).await.unwrap_err().status, 407);
            }
            assert_eq!(house.caller().get(RECORDS).await.status, StatusCode::OK);
        },
    )
    .await;
}

#[tokio::test]
async fn messages_are_in_the_callers_language() {
    house(Plan::default(), async |house| {
        let said = async |language: &str, forward: bool| {
            let head = if forward {
                "GET https://www.example.com/ HTTP/1.1\r\nHost: www.example.com\r\n"
            } else {
                "CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n"
            };
            let auth = basic("events");
            let head =
                format!("{head}Proxy-Authorization: {auth}\r\nAccept-Language: {language}\r\n\r\n");
            let answer = ask_raw(house.proxy, head.as_bytes()).await;
            check_refusal(
                &answer,
                403,
                "GW_DESTINATION_FORBIDDEN",
                "http_request_denied",
            );
            answer.json()["message"].as_str().unwrap().to_owned()
        };
        let english = "this destination is not allowed (not_a_kintone_domain); caller must change \
                       its call or ask the operators";
        assert!(
            said("ja,en;q=0.8", true)
                .await
                .contains("この宛先には接続できません")
        );
        assert!(said("ja-JP", true).await.contains("呼び出し元"));
        assert_eq!(said("en-US,ja;q=0.5", true).await, english);
        assert_eq!(
            said("ja", false).await,
            english,
            "CONNECT is answered in English"
        );
    })
    .await;
}

#[tokio::test]
async fn malformed_requests_are_told_what_is_wrong() {
    house(Plan::default(), async |house| {
        let auth = format!("Proxy-Authorization: {}\r\n", basic("events"));
        let get = format!("GET {RECORDS} HTTP/1.1\r\n");
        let host = format!("Host: {ACME}\r\n");
        let long = "x".repeat(70 << 10);
        for (head, status, detail) in [
            (format!("{get}{auth}\r\n"), 400, "host_missing"),
            (format!("{get}{host}{host}{auth}\r\n"), 400, "host_repeated"),
            (format!("{get}Host: a b\r\n{auth}\r\n"), 400, "host_invalid"),
            (
                format!("GET /k/v1/records.json HTTP/1.1\r\n{host}{auth}\r\n"),
                400,
                "origin_form",
            ),
            (
                format!("GET https://u:p@{ACME}/ HTTP/1.1\r\n{host}{auth}\r\n"),
                400,
                "userinfo",
            ),
            (
                format!("GET ftp://{ACME}/ HTTP/1.1\r\n{host}{auth}\r\n"),
                400,
                "scheme_unknown",
            ),
            (
                format!("CONNECT {ACME} HTTP/1.1\r\n{host}{auth}\r\n"),
                400,
                "port_missing",
            ),
            (
                format!("TRACE https://{ACME}/ HTTP/1.1\r\n{host}{auth}\r\n"),
                405,
                "method_forbidden",
            ),
            (
                format!("{get}{host}{auth}Transfer-Encoding: gzip, chunked\r\n\r\n"),
                400,
                "transfer_encoding_unknown",
            ),
            ("NONSENSE\r\n\r\n".to_owned(), 400, "unparsable"),
            (
                format!("{get}{host}{auth}X-Long: {long}\r\n\r\n"),
                431,
                "head_too_large",
            ),
        ] {
            let answer = ask_raw(house.proxy, head.as_bytes()).await;
            check_refusal(&answer, status, "GW_BAD_REQUEST", "http_request_error");
            assert_eq!(answer.header("connection"), "close", "{detail}");
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(
                (&line["detail"], &line["status"]),
                (&detail.into(), &status.into())
            );
        }
        assert!(house.sim.ledger().sockets.is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_order_of_judgement_is_the_contracts() {
    // Each of these is wrong in several ways; the first in the order decides.
    let resolve = "\"inside.cybozu.com\" = \"10.0.0.1:443\"".to_owned();
    let tables = caller_table("com", &token_of("com"), "accounts = [\"*.kintone.com\"]");
    house(
        Plan {
            resolve,
            tables,
            ..Plan::default()
        },
        async |house| {
            let auth = format!("Proxy-Authorization: {}\r\n", basic("events"));
            let status =
                async |head: String| ask_raw(house.proxy, head.as_bytes()).await.status.as_u16();
            assert_eq!(
                status("GET https://evil.example/ HTTP/1.1\r\n\r\n".into()).await,
                400
            );
            let nobody = "GET https://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n";
            assert_eq!(status(nobody.into()).await, 407);
            let evil =
                format!("GET https://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n{auth}\r\n");
            assert_eq!(status(evil).await, 403);
            // A caller without the right learns nothing of where the name leads.
            let answer = caller_of(&house, "com")
                .get("https://inside.cybozu.com/")
                .await;
            assert_eq!(answer.code(), "GW_CALLER_FORBIDDEN");
            let answer = caller_of(&house, "com")
                .get("https://acme.cybozu.com:8443/")
                .await;
            assert_eq!(
                house.output.line_of(answer.id()).await["detail"],
                "port_forbidden"
            );
        },
    )
    .await;
}

#[tokio::test]
async fn names_that_are_not_kintones_are_refused() {
    house(Plan::default(), async |house| {
        for host in [
            "www.example.com",
            "cybozu.com",
            "a.b.cybozu.com",
            "acme.s.s.cybozu.com",
            "acme.cybozu.com.",
            "acme_1.cybozu.com",
            "xn--bcher-kva.cybozu.com",
            "acme.cybozu.com.evil.example",
            "acmecybozu.com",
            "127.0.0.1",
            "[::1]",
            "-acme.cybozu.com",
        ] {
            let answer = house
                .caller()
                .get(&format!("https://{host}/k/v1/apps.json"))
                .await;
            check_refusal(
                &answer,
                403,
                "GW_DESTINATION_FORBIDDEN",
                "http_request_denied",
            );
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(line["detail"], "not_a_kintone_domain", "{host}");
            assert!(
                line["dns_ms"].is_null() && line["account"].is_null(),
                "{line}"
            );
            assert_eq!(line["credential"], "1", "who asked is known: {line}");
            let tunnel = house.caller().open_tunnel(host).await.unwrap_err();
            check_refusal(
                &tunnel,
                403,
                "GW_DESTINATION_FORBIDDEN",
                "http_request_denied",
            );
        }
        assert!(house.sim.ledger().sockets.is_empty());
    })
    .await;
}
