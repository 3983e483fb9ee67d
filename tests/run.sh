#!/usr/bin/env bash
# Runs the gateway in front of a simulated kintone, both on loopback, and prints calls that work.
# Ctrl-C stops both. Ports: PROXY_PORT, ADMIN_PORT, SIM_PORT, CONTROL_PORT. Binaries: as `make run`
# builds them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=${CARGO_TARGET_DIR:-target}/debug
proxy=127.0.0.1:${PROXY_PORT:-3128}
admin=127.0.0.1:${ADMIN_PORT:-9180}
sim=127.0.0.1:${SIM_PORT:-8443}
control=127.0.0.1:${CONTROL_PORT:-8444}
account=acme.cybozu.com

for at in "$proxy" "$admin" "$sim" "$control"; do
    if (exec 3<>"/dev/tcp/${at%:*}/${at#*:}") 2>/dev/null; then
        echo "$at is in use; choose others: PROXY_PORT=… ADMIN_PORT=… SIM_PORT=… CONTROL_PORT=… make run" >&2
        exit 1
    fi
done

dir=$(mktemp -d "${TMPDIR:-/var/tmp}/kintone-egress.XXXXXX")
pids=()
stop() {
    trap - EXIT
    ((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
    wait || true
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# until URL: waits until it answers 200, for at most 30 seconds, while the last program lives.
until_ready() {
    for _ in {1..300}; do
        curl --silent --fail --output /dev/null "$1" && return
        kill -0 "${pids[-1]}" 2>/dev/null || { echo "it ended: see above" >&2; return 1; }
        sleep 0.1
    done
    echo "$1 does not answer" >&2
    return 1
}

"$bin/kintone-sim" --listen "$sim" --control "$control" --ca-dir "$dir/ca" --tenant "$account" &
pids+=($!)
until_ready "http://$control/healthz"

token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
cat >"$dir/config.toml" <<TOML
[listen]
proxy = ["$proxy"]
admin = "$admin"

# The published address, left from as an address of loopback.
[[egress.address]]
published = "18.177.83.94"
bind = "127.0.0.94"

[upstream]
ca_file = "$dir/ca/ca.pem"
allow_networks = ["127.0.0.0/8"]

[upstream.resolve]
"*.cybozu.com" = "$sim"

[[caller]]
name = "demo"
token_sha256 = "$(printf '%s' "$token" | "$bin/kintone-egress" hash-token)"

[state]
dir = "$dir/state"

[drain]
announce = "0s"
grace = "5s"
TOML
mkdir -p "$dir/state"

"$bin/kintone-egress" serve --config "$dir/config.toml" &
pids+=($!)
until_ready "http://$admin/readyz"

cat <<TEXT

The gateway is ready. Forward mode (TLS is the gateway's), then a tunnel:

  curl -x http://demo:$token@$proxy -H 'X-Cybozu-API-Token: demo-token' 'http://$account/k/v1/records.json?app=1'
  curl -x http://demo:$token@$proxy -H 'X-Cybozu-API-Token: demo-token' --cacert $dir/ca/ca.pem 'https://$account/k/v1/records.json?app=1'

  metrics: http://$admin/metrics   configuration: $dir/config.toml   simulator: http://$control/ledger
  Ctrl-C stops both.

TEXT
wait -n || true
