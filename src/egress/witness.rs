//! Who is told when a call begins to go to kintone.

use std::fmt;

/// Is told of the first byte of a call. It is called under the connection's lock and must not wait.
pub trait Witness: fmt::Debug + Send + Sync {
    /// The first byte is about to be given to the kernel.
    fn begin(&self);
    /// The kernel has taken it.
    fn begun(&self);
    /// The kernel has not taken it; another attempt may follow.
    fn not_begun(&self);
}
