//! The vocabulary: who calls, for whom, where to, from which address, and how it ended.
//!
//! No I/O, no clock, no runtime. Every other unit speaks in these types, so that a bare string or
//! address never crosses a unit's border.

pub mod account;
pub mod address;
pub mod caller;
pub mod outcome;
pub mod table;

pub use account::{Account, AppId, CountedApp, Host, Tenant};
pub use address::{Bind, Client, HostName, Published};
pub use caller::{CallerName, Credential, Mode, Priority, Purpose, RequestId};
pub use outcome::{
    Actor, Cause, Code, DailyFigures, Denial, Detail, Failure, Outcome, ProxyError, QuotaFigures,
    Refusing,
};
pub use table::Table;
