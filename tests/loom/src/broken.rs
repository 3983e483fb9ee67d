//! Which mutant runs, if any.

use std::sync::OnceLock;

include!(concat!(env!("OUT_DIR"), "/names.rs"));

/// The environment variable that names it.
pub const VARIABLE: &str = "KINTONE_EGRESS_TEST_MUTANT";

/// Whether it is this one.
pub fn is(name: &str) -> bool {
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var(VARIABLE).ok());
    chosen.as_deref() == Some(name)
}
