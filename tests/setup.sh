#!/usr/bin/env bash
# Installs what the tests need beside Rust: curl, and the Node and Python clients of tests/clients.
# What is there already is left alone. Without root or sudo, missing programs are named and it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

missing=()
have() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
have curl curl
have unshare util-linux
have ip iproute2
have node nodejs
have npm npm
have python3 python3
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3-venv)

if ((${#missing[@]})); then
    say "installing ${missing[*]}"
    command -v apt-get >/dev/null 2>&1 || fail "please install: ${missing[*]}"
    if [[ $(id -u) -eq 0 ]]; then
        as_root=()
    elif sudo -n true 2>/dev/null; then
        as_root=(sudo -n)
    else
        fail "neither root nor sudo without a password; please install: ${missing[*]}"
    fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${missing[@]}"
fi

# Each version of the SDK has a folder of its own: they speak to a proxy in different ways.
for folder in tests/clients/sdk-*; do
    wanted=${folder##*/sdk-}
    installed=$folder/node_modules/@kintone/rest-api-client/package.json
    if [[ -f $installed ]] && grep -q "\"version\": \"$wanted\"" "$installed"; then
        continue
    fi
    say "installing @kintone/rest-api-client $wanted"
    npm install --prefix "$folder" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
done

requirements=tests/clients/python/requirements.txt
if ! cmp -s "$requirements" .venv/requirements.txt; then
    say "installing $(tr '\n' ' ' <"$requirements")"
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" .venv/requirements.txt
fi
