//! A short talk with the gateway, for rules that take more than one message to show.

use std::sync::atomic::Ordering;

use crate::bench::{Bench, text};
use crate::kintone::{Reply, Then};
use crate::wire::{Got, Wire};

/// The account of these talks.
pub const ACCOUNT: &str = "scene.cybozu.cn";

/// A connection over which that was sent.
pub async fn say(bench: &Bench, send: &[u8]) -> Wire {
    let mut wire = bench.connect(ACCOUNT).await;
    wire.send(&Bench::fill(ACCOUNT, send)).await;
    wire
}

/// The answer to a call that was counted.
pub async fn hear(bench: &Bench, wire: &mut Wire, method: &str) -> Got {
    let got = wire.answer(method).await;
    bench.calls.fetch_add(1, Ordering::Relaxed);
    match got {
        Ok(got) => got,
        Err(cut) => panic!("no answer, {:?}: {}", cut.by, text(&cut.came)),
    }
}

/// A plain answer that stays open.
pub const fn reply(bytes: &'static [u8]) -> Reply {
    Reply {
        on_head: b"",
        bytes,
        then: Then::Keep,
    }
}

/// An answer of which a part comes as soon as the head has come.
pub const fn on_head(on_head: &'static [u8], bytes: &'static [u8]) -> Reply {
    Reply {
        on_head,
        bytes,
        then: Then::Keep,
    }
}
