//! The status page: what an operator wants to see first. HTML without a script.

use std::fmt::{Display, Write};

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use super::answers::{AccountItem, Ready, Sort};
use super::state::Admin;
use crate::telemetry::{AddressView, LiveFilter, LiveSnapshot, Presence, SeenWord};

/// Accounts on the page; the API has all.
const ACCOUNTS: usize = 25;

/// Calls on the page; the API has all.
const CALLS: usize = 25;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;\
padding:0 1rem;color:#1b1b1b;background:#fff}h1{font-size:1.4rem}h2{font-size:1.1rem;\
margin-top:2rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;\
padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd}td.n,th.n{text-align:right;\
font-variant-numeric:tabular-nums}.ok{color:#0a6b2d}.bad{color:#b00020;font-weight:600}\
code{font-size:.9em}@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}\
th,td{border-color:#333}.ok{color:#6fd08c}.bad{color:#ff8a80}a{color:#8ab4f8}}";

/// The page of this moment.
pub fn answer(admin: &Admin) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ];
    (headers, compose(admin)).into_response()
}

fn compose(admin: &Admin) -> String {
    let mut page = String::with_capacity(8 << 10);
    push(
        &mut page,
        format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <meta http-equiv=\"refresh\" content=\"5\"><title>kintone-egress</title>\
             <style>{STYLE}</style></head><body><h1>kintone-egress {}</h1>",
            Escaped(admin.version)
        ),
    );
    push_readiness(&mut page, &Ready::from((admin.readiness)()));
    push_addresses(&mut page, &(admin.addresses)());
    push_accounts(&mut page, admin);
    let (calls, total) = admin
        .telemetry
        .live()
        .snapshot(&LiveFilter::default(), CALLS);
    push_calls(&mut page, &calls, total);
    page.push_str(
        "<h2>More</h2><p><a href=\"/metrics\">/metrics</a> · <a href=\"/readyz\">/readyz</a> · \
         <a href=\"/api/v1/config\">configuration</a> · <a href=\"/api/v1/accounts\">accounts</a> \
         · <a href=\"/api/v1/addresses\">addresses</a> · \
         <a href=\"/api/v1/requests\">requests</a></p></body></html>\n",
    );
    page
}

fn push_readiness(page: &mut String, ready: &Ready) {
    if ready.ready {
        page.push_str("<p class=\"ok\">Ready: calls are taken.</p>");
    } else {
        page.push_str("<p class=\"bad\">Not ready:</p>");
        push_list(page, &ready.reasons);
    }
    if !ready.warnings.is_empty() {
        page.push_str("<p class=\"bad\">To look at:</p>");
        push_list(page, &ready.warnings);
    }
}

fn push_list(page: &mut String, items: &[String]) {
    page.push_str("<ul>");
    for item in items {
        push(page, format_args!("<li>{}</li>", Escaped(item)));
    }
    page.push_str("</ul>");
}

fn push_addresses(page: &mut String, addresses: &[AddressView]) {
    page.push_str(
        "<h2>Addresses</h2><table><tr><th>Published</th><th>Bind</th><th>State</th><th></th>\
         <th class=\"n\">Connections</th><th class=\"n\">Pooled</th></tr>",
    );
    for it in addresses {
        let seen = it
            .verification
            .as_ref()
            .map(|verification| verification.seen);
        let (class, word) = match (it.presence, seen) {
            (Presence::Absent, _) => ("bad", "not on this host"),
            (Presence::Up, None) => ("ok", "up"),
            (Presence::Up, Some(SeenWord::Published)) => ("ok", "up, verified"),
            (Presence::Up, Some(SeenWord::Other)) => ("bad", "leaves as another address"),
            (Presence::Up, Some(SeenWord::Unknown)) => ("bad", "not verified"),
        };
        push(
            page,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{word}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                it.published, it.bind, it.state, it.connections, it.pooled
            ),
        );
    }
    page.push_str("</table>");
}

fn push_accounts(page: &mut String, admin: &Admin) {
    let mut items: Vec<AccountItem> = (admin.accounts)().iter().map(AccountItem::from).collect();
    Sort::Pressure.order(&mut items);
    push(
        page,
        format_args!(
            "<h2>Accounts, the most pressed first ({})</h2>",
            items.len()
        ),
    );
    page.push_str(
        "<table><tr><th>Account</th><th class=\"n\">In flight</th><th class=\"n\">Allowed</th>\
         <th class=\"n\">kintone's limit</th><th class=\"n\">Outside load</th>\
         <th class=\"n\">Settling</th><th class=\"n\">Waiting</th>\
         <th class=\"n\">Longest wait, ms</th></tr>",
    );
    for item in items.iter().take(ACCOUNTS) {
        let load = &item.load;
        let oldest = load.oldest_wait.unwrap_or_default().as_millis();
        push(
            page,
            format_args!(
                "<tr><td><a href=\"/api/v1/accounts/{0}\">{0}</a></td><td class=\"n\">{1}</td>\
                 <td class=\"n\">{2}</td><td class=\"n\">{3}</td><td class=\"n\">{4}</td>\
                 <td class=\"n\">{5}</td><td class=\"n\">{6}</td><td class=\"n\">{oldest}</td></tr>",
                Escaped(&item.account),
                load.inflight,
                load.allowed,
                load.limit,
                load.outside_load,
                load.settling,
                load.queued,
            ),
        );
    }
    page.push_str("</table>");
}

fn push_calls(page: &mut String, calls: &[LiveSnapshot], total: usize) {
    push(
        page,
        format_args!("<h2>Calls under way, the oldest first ({total})</h2>"),
    );
    page.push_str(
        "<table><tr><th>Call</th><th>Phase</th><th class=\"n\">Age, ms</th><th>Caller</th>\
         <th>Account</th><th>Mode</th></tr>",
    );
    for call in calls {
        let who = &call.who;
        let caller = who.caller.as_ref().map_or("", |it| it.as_str());
        let account = who.account.as_ref().map_or("", |it| it.as_str());
        let mode = who.mode.map_or("", |it| it.label());
        push(
            page,
            format_args!(
                "<tr><td><code>{}</code></td><td>{}</td><td class=\"n\">{}</td><td>{}</td>\
                 <td>{}</td><td>{mode}</td></tr>",
                call.id,
                call.phase.label(),
                call.age.as_millis(),
                Escaped(caller),
                Escaped(account),
            ),
        );
    }
    page.push_str("</table>");
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = page.write_fmt(text);
}

/// Text in HTML, in element content or between double quotes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            Escaped("<a href='x'>\"&").to_string(),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;"
        );
    }
}
