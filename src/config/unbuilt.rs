//! What the file may say and this version does not do yet: the one table. A line goes when its
//! capability comes.

use toml::de::{DeTable, DeValue};

use super::place::Severity;
use super::source::{Source, join, quoted};

/// The keys that ask for it; `*` is any one key, and a list is passed through to its tables.
const TABLE: [&[&str]; 3] = [
    &["listen", "proxy_tls"],
    &["listen", "tls"],
    &["caller", "certificate"],
];

/// Reports every use of what is not built.
pub(super) fn report(source: &Source<'_>, document: &DeTable<'_>) {
    for path in TABLE {
        visit(source, document, path, "");
    }
}

fn visit(source: &Source<'_>, table: &DeTable<'_>, path: &[&str], parent: &str) {
    let Some((wanted, rest)) = path.split_first() else {
        return;
    };
    for (name, value) in table {
        if *wanted != "*" && *wanted != name.get_ref().as_ref() {
            continue;
        }
        let key = join(parent, &quoted(name.get_ref()));
        match value.get_ref() {
            DeValue::Table(table) if !rest.is_empty() => visit(source, table, rest, &key),
            DeValue::Array(entries) if !rest.is_empty() => {
                for (index, entry) in entries.iter().enumerate() {
                    if let Some(table) = entry.get_ref().as_table() {
                        visit(source, table, rest, &format!("{key}[{index}]"));
                    }
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                if rest.is_empty() {
                    say(source, value.span().start, &key);
                }
            }
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
