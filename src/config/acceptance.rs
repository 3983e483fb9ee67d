//! `[acceptance]`: what is kept of which accounts take which published address.

use toml::{Table, Value};

use super::read::Section;

/// `[acceptance]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance {
    /// For how many accounts; of more, those that nobody has heard of for longest are forgotten.
    pub accounts: usize,
}

impl Default for Acceptance {
    fn default() -> Self {
        Self { accounts: 20_000 }
    }
}

impl Acceptance {
    /// As it is printed back.
    pub(super) fn shown(&self) -> Table {
        let accounts = i64::try_from(self.accounts).unwrap_or(i64::MAX);
        Table::from_iter([("accounts".to_owned(), Value::from(accounts))])
    }
}

/// Reads `[acceptance]`.
pub(super) fn read(root: &mut Section<'_>) -> Acceptance {
    let mut section = root.section("acceptance");
    let default = Acceptance::default();
    let acceptance = Acceptance {
        accounts: section.or("accounts", default.accounts, |value| {
            value.integer(1..=1_000_000)
        }),
    };
    section.finish();
    acceptance
}
