//! `/.kintone-egress/help`: what a client is to be told so that it calls through the gateway, in
//! Japanese or English, readable without script.

use http::HeaderMap;
use http::header::HOST;

use super::message::Language;

const ENGLISH: &str = include_str!("help/en.html");
const JAPANESE: &str = include_str!("help/ja.html");

/// What stands for the address at which the reader reached the gateway.
const PROXY: &str = "{{PROXY}}";

/// The address where the request does not say one that can be shown.
const SOME_GATEWAY: &str = "GATEWAY:3128";

/// What the gateway may do with a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connects {
    /// End its TLS, by certificates of the private authority.
    Inspected,
    /// Let it through.
    Tunnelled,
}

/// The page, as HTML, for a reader who sent `headers`.
pub(crate) fn page(headers: &HeaderMap, language: Language, connects: Connects) -> String {
    let text = match language {
        Language::En => ENGLISH,
        Language::Ja => JAPANESE,
    };
    let (kept, dropped) = match connects {
        Connects::Inspected => ("inspect", "tunnel"),
        Connects::Tunnelled => ("tunnel", "inspect"),
    };
    let text = without(text, dropped);
    let text = text.replace(&begin(kept), "").replace(&end(kept), "");
    text.replace(PROXY, &address(headers))
}

fn begin(part: &str) -> String {
    format!("<!--{part}-->")
}

fn end(part: &str) -> String {
    format!("<!--/{part}-->")
}

/// The text without what stands between the marks of `part`.
fn without(text: &str, part: &str) -> String {
    let (begin, end) = (begin(part), end(part));
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, marked)) = rest.split_once(&begin) {
        kept.push_str(before);
        rest = marked.split_once(&end).map_or("", |(_, after)| after);
    }
    kept + rest
}

/// Where the reader reached the gateway, with a port, since clients differ about which one is meant
/// without. Nothing is taken over that a page or a shell could understand as its own.
fn address(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_plain = |host: &&str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        !host.is_empty() && host.bytes().all(plain)
    };
    let Some(host) = host.filter(is_plain) else {
        return SOME_GATEWAY.to_owned();
    };
    // The colons of an IPv6 address stand within brackets.
    let has_port = host
        .rsplit(']')
        .next()
        .is_some_and(|tail| tail.contains(':'));
    match has_port {
        true => host.to_owned(),
        false => format!("{host}:80"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Language; 2] = [Language::En, Language::Ja];

    fn page_at(host: Option<&str>, language: Language, connects: Connects) -> String {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(HOST, host.parse().unwrap());
        }
        page(&headers, language, connects)
    }

    #[test]
    fn the_gateways_address_is_the_one_that_the_reader_used() {
        for (host, shown) in [
            (Some("gw.example:3128"), "gw.example:3128"),
            (Some("10.0.0.1:3128"), "10.0.0.1:3128"),
            (Some("[2001:db8::1]:3128"), "[2001:db8::1]:3128"),
            (Some("[2001:db8::1]"), "[2001:db8::1]:80"),
            (Some("gw.example"), "gw.example:80"),
            (None, SOME_GATEWAY),
            (Some(""), SOME_GATEWAY),
            (Some("<script>"), SOME_GATEWAY),
            (Some("a&b"), SOME_GATEWAY),
            (Some("$(id)"), SOME_GATEWAY),
            (Some("a b"), SOME_GATEWAY),
            (Some("a'b\"c"), SOME_GATEWAY),
        ] {
            for language in BOTH {
                let page = page_at(host, language, Connects::Inspected);
                let expected = format!("http://USER:TOKEN@{shown}<");
                assert!(page.contains(&expected), "{host:?}");
            }
        }
    }

    #[test]
    fn the_authority_is_spoken_of_only_where_there_is_one() {
        for language in BOTH {
            let on = page_at(None, language, Connects::Inspected);
            let off = page_at(None, language, Connects::Tunnelled);
            for word in [
                "ca.pem",
                "NODE_EXTRA_CA_CERTS",
                "keytool",
                "REQUESTS_CA_BUNDLE",
            ] {
                assert!(on.contains(word), "{word}");
                assert!(!off.contains(word), "{word}");
            }
            for page in [&on, &off] {
                assert!(!page.contains("<!--") && !page.contains("{{"), "{page}");
                assert!(!page.contains("<script"), "readable without");
                for client in [
                    "curl",
                    "wget",
                    "httpx",
                    "aiohttp",
                    "pyntone",
                    "cli-kintone",
                    "undici",
                    "Java",
                ] {
                    assert!(page.contains(client), "{client}");
                }
            }
        }
    }

    #[test]
    fn both_languages_say_the_same_of_each_client() {
        let codes = |language| -> Vec<String> {
            let page = page_at(None, language, Connects::Inspected);
            let parts = page.split("<code>").skip(1);
            let codes = parts.map(|part| part.split("</code>").next().unwrap().replace('\n', " "));
            let mut codes: Vec<_> = codes.collect();
            codes.sort();
            codes
        };
        assert_eq!(codes(Language::En), codes(Language::Ja));
    }

    #[test]
    fn every_element_that_begins_ends() {
        for language in BOTH {
            for connects in [Connects::Inspected, Connects::Tunnelled] {
                let page = page_at(None, language, connects);
                for name in [
                    "html", "body", "table", "tr", "td", "th", "p", "pre", "code", "h2",
                ] {
                    let begins = page.matches(&format!("<{name}>")).count()
                        + page.matches(&format!("<{name} ")).count();
                    let ends = page.matches(&format!("</{name}>")).count();
                    assert_eq!(begins, ends, "{name}");
                }
                let rows = page.split("<table>").skip(1).flat_map(|table| {
                    let table = table.split("</table>").next().unwrap();
                    let rows: Vec<_> = table.split("<tr>").skip(1).collect();
                    let cells =
                        |row: &str| row.matches("<td>").count() + row.matches("<th>").count();
                    let first = cells(rows[0]);
                    rows.into_iter()
                        .map(move |row| (cells(row), first))
                        .collect::<Vec<_>>()
                });
                assert!(rows.into_iter().all(|(cells, first)| cells == first));
            }
        }
    }
}
