//! Running a query over the records of an app.

use std::cmp::Ordering;

use super::query::{Condition, Direction, Operator, Query};
use crate::store::{App, Record, text};

/// The records of the page that the query asks for, and how many there are in all.
pub(super) fn run<'a>(app: &'a App, query: &Query) -> (Vec<(u64, &'a Record)>, usize) {
    let mut found: Vec<(u64, &Record)> = app
        .records
        .iter()
        .map(|(id, record)| (*id, record))
        .filter(|(id, record)| {
            query
                .condition
                .as_ref()
                .is_none_or(|condition| holds(condition, *id, record))
        })
        .collect();
    found.sort_by(|left, right| {
        query
            .order
            .iter()
            .map(|(field, direction)| {
                let order = compare(
                    &value(field, left.0, left.1),
                    &value(field, right.0, right.1),
                );
                match direction {
                    Direction::Ascending => order,
                    Direction::Descending => order.reverse(),
                }
            })
            .find(|order| order.is_ne())
            .unwrap_or_else(|| right.0.cmp(&left.0))
    });
    let total = found.len();
    let page = found
        .into_iter()
        .skip(query.offset as usize)
        .take(query.limit as usize)
        .collect();
    (page, total)
}

fn holds(condition: &Condition, id: u64, record: &Record) -> bool {
    let (field, operator, wanted) = match condition {
        Condition::Compare(field, operator, wanted) => (field, operator, wanted),
        Condition::Both(left, right) => return holds(left, id, record) && holds(right, id, record),
        Condition::Either(left, right) => {
            return holds(left, id, record) || holds(right, id, record);
        }
    };
    let have = value(field, id, record);
    let any = |test: fn(&str, &str) -> bool| wanted.iter().any(|want| test(&have, want));
    match operator {
        Operator::Equal | Operator::In => any(|have, want| compare(have, want).is_eq()),
        Operator::NotEqual | Operator::NotIn => !any(|have, want| compare(have, want).is_eq()),
        Operator::Less => any(|have, want| compare(have, want).is_lt()),
        Operator::LessOrEqual => any(|have, want| compare(have, want).is_le()),
        Operator::Greater => any(|have, want| compare(have, want).is_gt()),
        Operator::GreaterOrEqual => any(|have, want| compare(have, want).is_ge()),
        Operator::Like => any(is_like),
        Operator::NotLike => !any(is_like),
    }
}

/// kintone looks for words; any part of the text is close enough here.
fn is_like(have: &str, want: &str) -> bool {
    have.contains(want)
}

fn value(field: &str, id: u64, record: &Record) -> String {
    match field {
        "$id" | super::records::RECORD_NUMBER => id.to_string(),
        "$revision" => record.revision.to_string(),
        _ => record.values.get(field).map(text).unwrap_or_default(),
    }
}

/// Numbers by value, all else as text: `03` and `3` differ as texts of a phone number do.
fn compare(left: &str, right: &str) -> Ordering {
    let plain = |text: &str| {
        let is_plain = !text.starts_with('0') || text.len() == 1 || text.starts_with("0.");
        text.parse::<f64>().ok().filter(|_| is_plain)
    };
    match (plain(left), plain(right)) {
        (Some(left), Some(right)) => left.total_cmp(&right),
        (_, _) => left.cmp(right),
    }
}
