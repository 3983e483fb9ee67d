//! `readiness`: which accounts take a published address, as the gateway that runs on this host knows.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::fleet::{AskError, Wish, ask};
use crate::config::Config;

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// As the API gives it.
    Json,
}

/// A report to print.
#[derive(Debug)]
pub struct Told {
    /// Its text.
    pub text: String,
    /// Whether every account takes the address.
    pub is_ready: bool,
}

/// Asks the gateway that runs on this host under `config`.
///
/// # Errors
/// [`AskError`], with the remedy.
pub async fn tell(config: &Config, address: Ipv4Addr, form: Form) -> Result<Told, AskError> {
    let json = ask(config, &Wish::Readiness(address)).await?;
    let report: Value = serde_json::from_str(&json)
        .map_err(|error| AskError::Strange(config.listen.admin, error.to_string()))?;
    let is_ready = report["refused"] == 0 && report["unknown"] == 0;
    let text = match form {
        Form::Text => text(&report),
        Form::Json => json,
    };
    Ok(Told { text, is_ready })
}

fn text(report: &Value) -> String {
    let accounts = report["accounts"].as_array().map_or(&[][..], Vec::as_slice);
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut lines = vec![format!(
        "{} ({}): {} of {} accounts take it, {} refuse it, of {} nobody knows",
        word(&report["address"]),
        word(&report["state"]),
        report["accepted"],
        accounts.len(),
        report["refused"],
        report["unknown"],
    )];
    lines.extend(accounts.iter().map(|account| {
        let (name, state) = (word(&account["account"]), word(&account["state"]));
        let why = match (account["since"].as_str(), account["probe"] == true) {
            (Some(since), _) => format!("since {since}"),
            (None, true) => "no answer has told yet".to_owned(),
            (None, false) => "it is not asked: `probe` is off for it".to_owned(),
        };
        format!("{state:8}  {name}  {why}")
    }));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_see_first_who_has_not_taken_it() {
        let account = |account: &str, state: &str, since: Option<&str>| json!({"account": account, "state": state, "since": since, "probe": false});
        let report = json!({
            "address": "192.0.2.1", "state": "planned", "accepted": 0, "refused": 1, "unknown": 1,
            "accounts": [
                account("a.cybozu.com", "refused", Some("2026-11-26T00:00:00Z")),
                account("b.cybozu.com", "unknown", None),
            ],
        });
        let expected = "192.0.2.1 (planned): 0 of 2 accounts take it, 1 refuse it, of 1 nobody knows\n\
                        refused   a.cybozu.com  since 2026-11-26T00:00:00Z\n\
                        unknown   b.cybozu.com  it is not asked: `probe` is off for it\n";
        assert_eq!(text(&report), expected);
    }
}
