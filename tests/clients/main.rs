//! Real clients through the real gateway, in every way in that each can use: data goes and comes back
//! byte for byte, and each kind of refusal is readable in the client. What they are and how they are
//! run is in `README.md`; `make setup` installs them, `make clients` prints the matrix.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod client;
mod data;
mod matrix;
mod process;
mod refusals;
mod scene;

use client::{CLIENTS, Mode};

/// One client in one mode: its data, then its refusals.
async fn row(client: &str, mode: Mode) {
    let client = CLIENTS
        .iter()
        .find(|known| known.name == client)
        .expect("a client of the table");
    let shown = scene::run(client, mode).await;
    matrix::note(client.name, mode, &shown);
}

/// A test for each client and mode.
macro_rules! rows {
    ($($module:ident $client:literal: $($test:ident)*;)*) => {
        $(
            mod $module {
                $(
                    #[tokio::test]
                    async fn $test() {
                        super::row($client, super::Mode::of(stringify!($test))).await;
                    }
                )*
            }
        )*

        /// Every row that has a test.
        const TESTED: &[(&str, &[&str])] = &[$(($client, &[$(stringify!($test)),*])),*];
    };
}

rows! {
    curl "curl": forward_http forward tunnel inspect_h1 inspect_h2;
    wget "wget": forward_http tunnel inspect_h1;
    requests "requests": forward_http tunnel inspect_h1;
    httpx "httpx": forward_http tunnel inspect_h1 inspect_h2;
    aiohttp "aiohttp": forward_http tunnel inspect_h1;
    pyntone "pyntone": tunnel inspect_h1;
    sdk_6_1_4 "sdk-6.1.4": forward;
    sdk_6_2_1 "sdk-6.2.1": tunnel inspect_h1;
    undici "undici": forward_http tunnel inspect_h1 inspect_h2;
    got "got": forward_http tunnel inspect_h1;
    cli_kintone "cli-kintone": tunnel inspect_h1;
    java "java": forward_http tunnel inspect_h1 inspect_h2;
}

#[test]
fn every_client_is_tested_in_every_mode_that_it_can_use() {
    let tested: Vec<_> = TESTED
        .iter()
        .flat_map(|(client, modes)| modes.iter().map(move |mode| (*client, Mode::of(mode))))
        .collect();
    let wanted: Vec<_> = CLIENTS
        .iter()
        .flat_map(|client| client.modes.iter().map(move |mode| (client.name, *mode)))
        .collect();
    assert_eq!(tested, wanted);
}
