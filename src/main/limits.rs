//! What the system lets this process have.

use kintone_egress::config::Config;
use kintone_egress::descriptors;

/// Takes as many file descriptors as this process may have, and says so where they are too few for
/// what is configured.
pub(crate) fn raise_descriptors(config: &Config) {
    let needed = descriptors::needed(config.limits.connections, config.upstream.pool_total);
    match descriptors::raise() {
        Some(limit) if limit < needed => tracing::warn!(
            limit,
            needed,
            "too few file descriptors for [limits] connections and [upstream] pool_total: calls \
             beyond are answered 503 GW_OVERLOADED; raise LimitNOFILE or lower the two"
        ),
        Some(_) | None => {}
    }
}
