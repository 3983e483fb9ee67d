//! Which of our other hosts a connection comes from.

use std::sync::Arc;

/// Which host a request comes from, as its certificate says. It stands in the extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerName(pub Arc<str>);
