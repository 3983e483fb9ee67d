//! What a host tells the others: one row, written whole at each beat.
//!
//! The store may lose a row, deliver it late, twice or after a newer one, and it may hold garbage: a
//! row has a length, a version and a checksum, and [`Row::decode`] refuses what is none. An account
//! that nobody needs help with is absent. Of loans nothing is ever left out, for what is absent was
//! given back.

pub use content::{
    ACCOUNTS_MAX, AccountRow, HOSTS_MAX, HeldRow, LOANS_MAX, LentRow, Members, ROW_BYTES_MAX, Row,
    Stamp, TENANTS_MAX, TenantRow,
};

mod code;
mod content;

#[cfg(test)]
mod tests;
