//! Benchmarks of the gateway's parts: `cargo bench -p kintone-egress-bench`.
//!
//! They are a package of their own so that they are built with the features of the gateway and not
//! with those of its tests: `tokio`'s clock costs a lock more where tests can pause it.
