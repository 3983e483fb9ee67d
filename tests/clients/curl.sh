#!/usr/bin/env bash
# Reads an app's records through the gateway by curl.
#   curl.sh forward        GET https://… in absolute form: TLS is the gateway's
#   curl.sh forward-http   GET http://… in absolute form, as -x does it by itself
#   curl.sh tunnel         CONNECT, TLS end to end
# See README.md for the environment and the line that is printed.
set -euo pipefail

host=${BASE_URL#https://}
path="/k/v1/records.json?app=$APP"
common=(--silent --show-error --max-time 60 --header "X-Cybozu-API-Token: $API_TOKEN")
case $1 in
    forward)
        # The proxy stands where a server would: so curl does not wrap the call in a tunnel.
        credentials=()
        login=${PROXY_URL#http://}
        if [[ $login == *@* ]]; then
            basic=$(printf '%s' "${login%@*}" | base64 --wrap=0)
            credentials=(--header "Proxy-Authorization: Basic $basic")
        fi
        route=("${credentials[@]}" --request-target "$BASE_URL$path" --header "Host: $host" "http://${login##*@}/")
        ;;
    forward-http) route=(--proxy "$PROXY_URL" "http://$host$path") ;;
    # curl's own CONNECT answer does not reach --output: the reason phrase and status tell.
    tunnel) route=(--proxy "$PROXY_URL" --cacert "$CA_FILE" "$BASE_URL$path") ;;
    *) echo "curl.sh forward|forward-http|tunnel" >&2; exit 2 ;;
esac

head=$(mktemp)
body=$(mktemp)
trap 'rm -f "$head" "$body"' EXIT
failure=$(curl "${common[@]}" --dump-header "$head" --output "$body" \
    --write-out '%{http_connect} %{http_code}' "${route[@]}" 2>&1) || true

exec python3 - "$head" "$body" "$failure" <<'PYTHON'
import json, re, sys

head, body, said = open(sys.argv[1]).read(), open(sys.argv[2]).read(), sys.argv[3]
connect, status = map(int, re.search(r"(\d{3}) (\d{3})$", said).groups())
if status == 200:
    print(json.dumps({"ok": True, "records": json.loads(body)["records"]}))
elif status == 0 and connect != 200:
    reason = re.match(r"HTTP/\S+ \d+ ?(\S*)", head)
    code = reason[1] if reason else None
    print(json.dumps({"ok": False, "status": connect or None, "code": code, "message": said}))
else:
    error = json.loads(body) if body.startswith("{") else {}
    print(json.dumps({"ok": False, "status": status or None, "code": error.get("code"), "message": error.get("message", said)}))
PYTHON
