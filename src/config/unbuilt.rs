//! What the file may say and this version does not do yet: the one table. A line goes when its
//! capability comes.

use toml::de::{DeTable, DeValue};

use super::place::Severity;
use super::source::{Source, join, quoted};

/// One capability that is still to come.
struct Unbuilt {
    /// The key that asks for it; `*` is any one key, and a list is passed through to its tables.
    path: &'static [&'static str],
    /// The value that asks for it; `None`: any.
    value: Option<&'static str>,
}

const TABLE: [Unbuilt; 3] = [
    ignored(&["listen", "proxy_tls"]),
    ignored(&["listen", "tls"]),
    ignored(&["caller", "certificate"]),
];

const fn ignored(path: &'static [&'static str]) -> Unbuilt {
    Unbuilt { path, value: None }
}

/// Reports every use of what is not built.
pub(super) fn report(source: &Source<'_>, document: &DeTable<'_>) {
    for unbuilt in &TABLE {
        visit(source, document, unbuilt, unbuilt.path, "");
    }
}

fn visit(source: &Source<'_>, table: &DeTable<'_>, unbuilt: &Unbuilt, path: &[&str], parent: &str) {
    let Some((wanted, rest)) = path.split_first() else {
        return;
    };
    for (name, value) in table {
        if *wanted != "*" && *wanted != name.get_ref().as_ref() {
            continue;
        }
        let key = join(parent, &quoted(name.get_ref()));
        match value.get_ref() {
            DeValue::Table(table) if !rest.is_empty() => visit(source, table, unbuilt, rest, &key),
            DeValue::Array(entries) if !rest.is_empty() => {
                for (index, entry) in entries.iter().enumerate() {
                    if let Some(table) = entry.get_ref().as_table() {
                        visit(source, table, unbuilt, rest, &format!("{key}[{index}]"));
                    }
                }
            }
            asked
                if rest.is_empty()
                    && unbuilt
                        .value
                        .is_none_or(|word| asked.as_str() == Some(word)) =>
            {
                say(source, value.span().start, &key);
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {}
        }
    }
}

fn say(source: &Source<'_>, offset: usize, key: &str) {
    source.report(
        Severity::Warning,
        offset,
        key,
        "is not built in this version",
        "it has no effect",
    );
}
