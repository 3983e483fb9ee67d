//! What the rows have shown, kept for `make clients` to print.

use std::fmt::Write as _;
use std::path::Path;

use super::client::{Mode, Shows};

/// Keeps a row that has passed: a file of lines `client mode code shown`.
pub(crate) fn note(client: &str, mode: Mode, shown: &[(&str, Shows)]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    std::fs::create_dir_all(&folder).unwrap();
    let mut lines = format!("{client}\t{}\tdata\tsame\n", mode.name());
    for (code, shows) in shown {
        let shows = match shows {
            Shows::Code => "code",
            Shows::Message => "message",
            Shows::Status => "status",
        };
        writeln!(lines, "{client}\t{}\t{code}\t{shows}", mode.name()).unwrap();
    }
    std::fs::write(folder.join(format!("{client} {}", mode.name())), lines).unwrap();
}
