#!/usr/bin/env bash
# Installs what the laboratory needs beside Rust: ip and nft. What is there already is left alone.
set -euo pipefail

fail() { printf 'lab: %s\n' "$*" >&2; exit 1; }

missing=()
have() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
have ip iproute2
have nft nftables
have sysctl procps
have unshare util-linux
((${#missing[@]})) || exit 0

printf 'lab: installing %s\n' "${missing[*]}"
command -v apt-get >/dev/null 2>&1 || fail "please install: ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"
