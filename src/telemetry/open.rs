//! What is counted as open until it is dropped.

use prometheus::{IntCounter, IntGauge};

/// An open tunnel: counted as open until dropped.
#[derive(Debug)]
pub struct TunnelGauge {
    pub(super) open: IntGauge,
    pub(super) to_kintone: IntCounter,
    pub(super) from_kintone: IntCounter,
}

/// An inspected connection: counted as open until dropped.
#[derive(Debug)]
pub struct OpenInspection {
    pub(super) open: IntGauge,
}

impl TunnelGauge {
    /// `bytes` went from the caller to kintone.
    pub fn to_kintone(&self, bytes: u64) {
        self.to_kintone.inc_by(bytes);
    }

    /// `bytes` came from kintone.
    pub fn from_kintone(&self, bytes: u64) {
        self.from_kintone.inc_by(bytes);
    }
}

impl Drop for OpenInspection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Drop for TunnelGauge {
    fn drop(&mut self) {
        self.open.dec();
    }
}
