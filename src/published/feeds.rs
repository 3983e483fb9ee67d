//! The list for programs: JSON, text, CSV and Atom.

use askama::Template;
use encoding_rs::SHIFT_JIS;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::calendar::{day, in_japan};
use super::language::Language;
use super::list::{Entry, List};
use super::memory::Change;
use crate::config::{AddressState, Public};

/// Changes that the feed shows, the latest ones.
const FEED_CHANGES: usize = 50;

/// What the CSV calls the service unless the configuration names it.
const SERVICE: &str = "kintone連携";

/// `egress-ips.json`: the names of AWS's `ip-ranges.json`, so that programs for that one read it,
/// and more.
#[derive(Debug, Serialize)]
struct Ranges<'a> {
    schema: u32,
    #[serde(rename = "syncToken")]
    sync_token: String,
    #[serde(rename = "createDate")]
    create_date: String,
    service: &'a str,
    #[serde(rename = "minimumNoticeDays")]
    minimum_notice_days: u16,
    #[serde(rename = "overlapDays")]
    overlap_days: u16,
    prefixes: Vec<Range<'a>>,
    /// Calls never leave over IPv6.
    ipv6_prefixes: [(); 0],
}

#[derive(Debug, Serialize)]
struct Range<'a> {
    ip_prefix: String,
    region: &'static str,
    service: &'a str,
    network_border_group: &'static str,
    state: &'static str,
    valid_from: Option<Date>,
    retire_after: Option<Date>,
}

/// JSON, as `infra/schemas/egress-ips.schema.json` describes it.
pub(super) fn json(list: &List, public: &Public) -> String {
    let service = public.service.as_deref().unwrap_or("kintone-egress");
    let range = |entry: &Entry| Range {
        ip_prefix: cidr(entry),
        region: "GLOBAL",
        service,
        network_border_group: "GLOBAL",
        state: entry.state.word(),
        valid_from: entry.valid_from,
        retire_after: entry.retire_after,
    };
    let ranges = Ranges {
        schema: 1,
        sync_token: list.changed.as_second().to_string(),
        create_date: seconds(list.changed),
        service,
        minimum_notice_days: list.minimum_notice_days,
        overlap_days: list.overlap_days,
        prefixes: list.entries.iter().map(range).collect(),
        ipv6_prefixes: [],
    };
    let text = serde_json::to_string_pretty(&ranges);
    text.map(|text| text + "\n").unwrap_or_default()
}

/// One CIDR a line, nothing else.
pub(super) fn text(list: &List) -> String {
    let lines = list.entries.iter();
    lines.map(|entry| cidr(entry) + "\n").collect()
}

/// What cybozu.com imports: Shift-JIS, CRLF, three quoted columns, the CIDR of a single address
/// empty. Source:
/// <https://jp.cybozu.help/general/en/admin/list_security/list_access/ip_restrictions/enable_ip.html>
pub(super) fn csv(list: &List, public: &Public) -> Vec<u8> {
    let service = public.service.as_deref().unwrap_or(SERVICE);
    let service = if is_shift_jis(service) {
        service
    } else {
        SERVICE
    };
    let count = list.entries.len();
    let mut rows = "\"IP Address\",\"CIDR\",\"Memo\"\r\n".to_owned();
    for (at, entry) in list.entries.iter().enumerate() {
        let when = match (entry.state, entry.valid_from, entry.retire_after) {
            (AddressState::Planned, Some(from), _) => format!(" {from}から使用"),
            (AddressState::Planned, None, _) => " 使用予定".to_owned(),
            (AddressState::Active, _, Some(until)) => format!(" {until}まで使用"),
            (AddressState::Active, _, None) => String::new(),
            (AddressState::Retiring, ..) => " 使用終了".to_owned(),
        };
        let memo = format!("{service} 接続元 {}/{count}{when}", at + 1).replace('"', "\"\"");
        rows += &format!("\"{}\",\"\",\"{memo}\"\r\n", entry.address);
    }
    let (bytes, _, _) = SHIFT_JIS.encode(&rows);
    bytes.into_owned()
}

fn is_shift_jis(text: &str) -> bool {
    let (_, _, is_replaced) = SHIFT_JIS.encode(text);
    !is_replaced
}

/// The changes as an Atom feed (RFC 4287).
#[derive(Template)]
#[template(path = "feed.xml")]
struct Feed<'a> {
    id: String,
    service: &'a str,
    url: &'a str,
    updated: String,
    entries: Vec<Item>,
}

struct Item {
    id: String,
    address: String,
    updated: String,
    ja: String,
    en: String,
}

/// The changes of the list. Two hosts that saw a change on the same day name it alike.
pub(super) fn atom(list: &List, public: &Public) -> String {
    let url = public.url.as_deref().unwrap_or_default();
    let id = urn(&format!("kintone-egress {url}"));
    let mut entries: Vec<Item> = Vec::new();
    for change in list.changes.iter().take(FEED_CHANGES) {
        entries.push(item(&id, change, &entries));
    }
    let feed = Feed {
        service: public.service.as_deref().unwrap_or("kintone-egress"),
        id,
        url,
        updated: seconds(list.changed),
        entries,
    };
    feed.render().unwrap_or_default()
}

fn item(feed: &str, change: &Change, others: &[Item]) -> Item {
    let what = serde_json::to_string(&change.what).unwrap_or_default();
    let name = format!("{feed} {} {} {what}", day(change.at), change.address);
    let mut id = urn(&name);
    // The same again on the same day.
    let mut again = 0;
    while others.iter().any(|other| other.id == id) {
        again += 1;
        id = urn(&format!("{name} {again}"));
    }
    Item {
        id,
        address: format!("{}/32", change.address),
        updated: in_japan(change.at),
        ja: Language::Ja.change(change.what),
        en: Language::En.change(change.what),
    }
}

/// A name that is the same for the same text: a UUID of version 8 (RFC 9562 section 5.8).
fn urn(text: &str) -> String {
    let digest = Sha256::digest(text);
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]);
    format!("urn:uuid:{a}-{b}-{c}-{d}-{e}")
}

fn cidr(entry: &Entry) -> String {
    format!("{}/32", entry.address)
}

/// RFC 3339 in UTC, whole seconds.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
