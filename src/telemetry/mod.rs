//! What operators see: metrics, one log line a call, the program's own log.

pub use record::Record;

pub mod record;
