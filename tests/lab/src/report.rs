//! What is told at the end.

use std::io::Write as _;
use std::time::Duration;

use crate::lab::Outcomes;
use crate::site::PUBLISHED;

/// One scenario, done.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) outcomes: Outcomes,
    pub(crate) faults: Vec<anyhow::Error>,
}

/// Says something to whoever looks on.
pub(crate) fn say(line: &str) {
    // Nothing is to be done if nobody can hear it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The headings of the table.
pub(crate) fn headings() {
    let [first, second] = PUBLISHED.map(|ip| ip.to_string());
    say(&line(
        [
            "scenario", "s", "calls", &first, &second, "other", "", "outcomes",
        ]
        .map(str::to_owned),
    ));
}

/// One row of it, and what was wrong.
pub(crate) fn row(row: &Row) {
    let Outcomes { tally, seen } = &row.outcomes;
    let sent = |ip| seen.promised.get(&ip).copied().unwrap_or_default();
    let verdict = if row.faults.is_empty() { "ok" } else { "FAULT" };
    say(&line([
        row.name.to_owned(),
        format!("{:.1}", row.took.as_secs_f64()),
        tally.total().to_string(),
        sent(PUBLISHED[0]).to_string(),
        sent(PUBLISHED[1]).to_string(),
        seen.strays.to_string(),
        verdict.to_owned(),
        tally.to_string(),
    ]));
    tell_faults(row);
}

fn tell_faults(row: &Row) {
    for fault in &row.faults {
        say(&format!("  {}: {fault:#}", row.name));
    }
}

/// The last word, with all that was wrong, as of a long log often only the end is kept; whether all
/// was well.
pub(crate) fn close(rows: &[Row], took: Duration) -> bool {
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
    let faulty = rows.iter().filter(|row| !row.faults.is_empty()).count();
    say(&format!(
        "\nlab: {} scenarios, {faulty} with faults; {} calls in {:.0} s; packets towards kintone: {} \
         from published addresses, {} from any other",
        rows.len(),
        sum(|row| row.outcomes.tally.total()),
        took.as_secs_f64(),
        sum(|row| row.outcomes.seen.promised()),
        sum(|row| row.outcomes.seen.strays),
    ));
    rows.iter().for_each(tell_faults);
    faulty == 0 && !rows.is_empty()
}

fn line([name, took, calls, first, second, other, verdict, outcomes]: [String; 8]) -> String {
    format!(
        "{name:<19} {took:>5} {calls:>6} {first:>13} {second:>14} {other:>6}  {verdict:<6}{outcomes}"
    )
}
