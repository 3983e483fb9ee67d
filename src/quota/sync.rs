//! Where threads meet, named in one place, so that a model checker can put its own here
//! (`tests/loom`).

pub(super) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub(super) use tokio::sync::oneshot;
pub(super) use tokio::time::timeout_at;
