#!/usr/bin/env bash
# Runs the gateway in front of a simulated kintone, both on loopback, and prints calls that work.
# Ctrl-C stops both. Ports: PROXY_PORT, ADMIN_PORT, SIM_PORT, CONTROL_PORT; without them the usual
# ones, and free ones in place of those that are taken. Binaries: as `make run` builds them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'run: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

command -v curl >/dev/null 2>&1 || fail "curl is missing: make setup installs it"
bin=${CARGO_TARGET_DIR:-target}/debug
account=acme.cybozu.com

# is_taken PORT: does anything on this machine listen there?
is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

chosen=()
# choose VARIABLE USUAL: puts into `address` one that nothing listens on.
choose() {
    local asked=${!1:-} port=${!1:-$2}
    while is_taken "$port" || [[ " ${chosen[*]-} " == *" $port "* ]]; do
        [[ -z $asked ]] || fail "127.0.0.1:$port is in use; choose another: $1=…"
        port=$((20000 + RANDOM % 10000))
    done
    chosen+=("$port")
    address=127.0.0.1:$port
}
choose PROXY_PORT 3128 && proxy=$address
choose ADMIN_PORT 9180 && admin=$address
choose SIM_PORT 8443 && sim=$address
choose CONTROL_PORT 8444 && control=$address

dir=$(mktemp -d "${TMPDIR:-/var/tmp}/kintone-egress.XXXXXX")
pids=()
stop() {
    trap '' INT TERM
    trap - EXIT
    ((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
    wait || true
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# A process group for each program: Ctrl-C reaches this script alone, which ends each once.
set -m

# until_ready URL: waits until it answers 200, for at most 30 seconds, while the last program lives.
until_ready() {
    for _ in {1..300}; do
        curl --silent --fail --noproxy '*' --output /dev/null "$1" && return
        kill -0 "${pids[-1]}" 2>/dev/null || fail "a program ended by itself: see above"
        sleep 0.1
    done
    fail "$1 does not answer"
}

"$bin/kintone-sim" --listen "$sim" --control "$control" --ca-dir "$dir/ca" --tenant "$account" &
pids+=($!)
until_ready "http://$control/healthz"

# make_token NAME: sets NAME_token and NAME_hash.
make_token() {
    local made
    made=$("$bin/kintone-egress" hash-token --generate)
    printf -v "$1_hash" '%s' "$(sed -n 's/^token_sha256 = "\(.*\)"$/\1/p' <<<"$made")"
    printf -v "$1_token" '%s' "$(sed -n 's/^token  *= "\(.*\)"$/\1/p' <<<"$made")"
}
make_token demo
make_token seen
token=$demo_token
"$bin/kintone-egress" ca init --out "$dir/inspect-ca" >"$dir/ca-init.txt"
mkdir "$dir/state"
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
token_sha256 = "$demo_hash"

# Another, whose CONNECTs are inspected.
[[caller]]
name = "seen"
token_sha256 = "$seen_hash"

[inspect]
ca_cert = "$dir/inspect-ca/ca.pem"
ca_key = "$dir/inspect-ca/ca.key"
accounts = ["*"]
callers = ["seen"]

[state]
dir = "$dir/state"

[drain]
announce = "0s"
grace = "5s"
TOML

"$bin/kintone-egress" serve --config "$dir/config.toml" &
pids+=($!)
until_ready "http://$admin/readyz"

cat <<TEXT

The gateway is ready. Calls that work, from another terminal:

  forward: TLS to kintone is the gateway's
  curl -x http://demo:$token@$proxy -H 'X-Cybozu-API-Token: demo-token' 'http://$account/k/v1/records.json?app=1'

  tunnel: TLS from end to end
  curl -x http://demo:$token@$proxy --cacert $dir/ca/ca.pem -H 'X-Cybozu-API-Token: demo-token' 'https://$account/k/v1/records.json?app=1'

  inspect: the same CONNECT, but each call inside is seen; what is trusted is the private CA
  curl -x http://seen:$seen_token@$proxy --cacert $dir/inspect-ca/ca.pem -H 'X-Cybozu-API-Token: demo-token' 'https://$account/k/v1/records.json?app=1'

  @kintone/rest-api-client (tests/clients/node/sdk.mjs; make setup installs it)
  printf 'read\thttp://demo:%s@%s\thttps://%s\n' $token $proxy $account | CA_FILE=$dir/ca/ca.pem API_TOKEN=demo-token APP=1 tests/clients/run sdk-6.2.1 tunnel

  in your own code
  new KintoneRestAPIClient({
    baseUrl: "https://$account",
    auth: { apiToken: "demo-token" },
    proxy: { protocol: "http", host: "${proxy%:*}", port: ${proxy#*:}, auth: { username: "demo", password: "$token" } },
    httpsAgent: new https.Agent({ ca: fs.readFileSync("$dir/ca/ca.pem") }),
  })

Below, one line a call as each ends. Metrics: http://$admin/metrics  Configuration: $dir/config.toml
What kintone saw: http://$control/ledger  Ctrl-C stops both.

TEXT
wait -n || true
fail "a program ended by itself: see above"
