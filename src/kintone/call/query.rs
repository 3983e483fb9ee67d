//! Parameters in the query of a URL.

use std::borrow::Cow;

use memchr::memchr;
use percent_encoding::percent_decode;

/// Longest name of a parameter that is decoded to be compared, in bytes: `apps[299]` with every
/// byte percent-encoded.
const NAME_MAX: usize = 3 * "apps[299]".len();

/// The values of the parameter `name`, decoded, in their order. With [`Form::List`] also those of
/// `name[0]`, `name[1]` and so on: kintone's form of an array.
pub(super) fn values<'q>(
    query: &'q str,
    name: &'static str,
    form: Form,
) -> impl Iterator<Item = Cow<'q, [u8]>> {
    pairs(query.as_bytes())
        .filter(move |(key, _)| is(key, name.as_bytes(), form))
        .map(|(_, value)| percent_decode(value).into())
}

/// How a parameter is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    One,
    List,
}

fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = Some(query);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let pair = match memchr(b'&', bytes) {
            Some(at) => {
                rest = Some(&bytes[at + 1..]);
                &bytes[..at]
            }
            None => {
                rest = None;
                bytes
            }
        };
        Some(match memchr(b'=', pair) {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &pair[pair.len()..]),
        })
    })
}

fn is(key: &[u8], name: &[u8], form: Form) -> bool {
    if key.contains(&b'%') {
        if key.len() > NAME_MAX {
            return false;
        }
        let decoded: Cow<'_, [u8]> = percent_decode(key).into();
        return is_plain(&decoded, name, form);
    }
    is_plain(key, name, form)
}

fn is_plain(key: &[u8], name: &[u8], form: Form) -> bool {
    let Some(index) = key.strip_prefix(name) else {
        return false;
    };
    index.is_empty()
        || form == Form::List
            && index
                .strip_prefix(b"[")
                .and_then(|index| index.strip_suffix(b"]"))
                .is_some_and(|index| index.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(query: &str, name: &'static str, form: Form) -> Vec<String> {
        values(query, name, form)
            .map(|value| String::from_utf8_lossy(&value).into_owned())
            .collect()
    }

    #[test]
    fn names_are_whole_and_both_sides_are_decoded() {
        assert_eq!(all("app=1&id=2", "app", Form::One), ["1"]);
        assert_eq!(all("xapp=1&apps=2&app", "app", Form::One), [""]);
        assert_eq!(all("%61pp=%31&query=app%3D2", "app", Form::One), ["1"]);
        assert_eq!(all("app=1&app=2", "app", Form::One), ["1", "2"]);
        assert_eq!(all("", "app", Form::One), [""; 0]);
        assert_eq!(all("app[0]=1", "app", Form::One), [""; 0]);
    }

    #[test]
    fn lists_have_one_parameter_an_element() {
        let query = "apps[0]=1&apps%5B1%5D=2&apps=3&apps[x]=4&apps[]=5";
        assert_eq!(all(query, "apps", Form::List), ["1", "2", "3", "5"]);
    }
}
