#!/usr/bin/env bash
# Installs what the tests need beside Rust: jq, the clients of tests/clients (curl, wget, Java, and in the
# versions of their lock files those in Node and Python), for tests/published Chromium, and for tests/infra
# Prometheus, systemd-analyze and logrotate. What is there already is left alone. Without root or sudo, missing
# programs are named and it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Where Debian puts logrotate, which not every user has on the path.
PATH=$PATH:/usr/sbin

missing=()
have() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
have curl curl
have wget wget
have unshare util-linux
have ip iproute2
have jq jq
have openssl openssl
have logrotate logrotate
have systemd-analyze systemd
have node nodejs
have chromium chromium
have npm npm
have python3 python3
# Java 17 is what is tested; a later one will do.
have java openjdk-17-jre-headless
have javac openjdk-17-jdk-headless
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3-venv)

# as_root COMMAND…: runs it as root, or says what cannot be had without.
as_root() {
    if [[ $(id -u) -eq 0 ]]; then
        "$@"
    elif sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        fail "neither root nor sudo without a password; please install: ${missing[*]:-prometheus}"
    fi
}

if ((${#missing[@]})); then
    say "installing ${missing[*]}"
    command -v apt-get >/dev/null 2>&1 || fail "please install: ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${missing[@]}"
fi

# Prometheus's programs without its service, which the package would start where systemd runs.
if ! command -v promtool >/dev/null 2>&1 || ! command -v prometheus >/dev/null 2>&1; then
    if [[ ! -x .tools/usr/bin/promtool || ! -x .tools/usr/bin/prometheus ]]; then
        say "unpacking Debian's prometheus into .tools"
        command -v apt-get >/dev/null 2>&1 || fail "please install: prometheus"
        unpack=$(mktemp -d)
        trap 'rm -rf "$unpack"' EXIT
        download() { (cd "$unpack" && apt-get download -qq -o APT::Sandbox::User="$(id -un)" prometheus); }
        download 2>/dev/null || { as_root apt-get update -qq && download; }
        mkdir -p .tools
        dpkg-deb --fsys-tarfile "$unpack"/prometheus_*.deb | tar -x -C .tools ./usr/bin
    fi
fi

# Each version of the SDK has a folder of its own: they speak to a proxy in different ways. npm ci installs what
# the lock file says, checked by its hashes.
for folder in tests/clients/node tests/clients/sdk-* tests/published; do
    if cmp -s "$folder/package-lock.json" "$folder/node_modules/package-lock.json"; then
        continue
    fi
    say "installing the packages of $folder"
    npm ci --prefix "$folder" --no-audit --no-fund --ignore-scripts --loglevel=error
    cp "$folder/package-lock.json" "$folder/node_modules/package-lock.json"
done

requirements=tests/clients/python/requirements.txt
if ! cmp -s "$requirements" .venv/requirements.txt; then
    say "installing the packages of $requirements"
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r "$requirements"
    cp "$requirements" .venv/requirements.txt
fi

java=tests/clients/java
if [[ $java/Client.java -nt $java/classes/Client.class ]]; then
    say "compiling $java"
    javac --release 17 -d "$java/classes" "$java/Client.java"
fi
