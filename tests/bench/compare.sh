#!/usr/bin/env bash
# Measures the gateway beside other proxies on this machine: BENCH_HARNESS=FOLDER tests/bench/compare.sh
# [OPTION…]. FOLDER has the harness's bench.py, which gets the peer of peer/ours.toml and the options;
# without options it compares with HAProxy and a bare hyper proxy. Needs what the harness needs: root,
# nginx, its load generator.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

harness=${BENCH_HARNESS:?the folder of the comparison harness}
[[ -f $harness/bench.py ]] || { echo "$harness has no bench.py" >&2; exit 1; }
cargo build --release --locked --bin kintone-egress
target=$(realpath "${CARGO_TARGET_DIR:-target}")
(($# > 0)) || set -- --only haproxy,floor-hyper,floor-copy,ours --workloads forward,tunnel,idle,intercept
exec python3 "$harness/bench.py" --peers "$PWD/tests/bench/peer/ours.toml" \
    --bin-dir "$target/release" --json "$target/compare.json" "$@"
