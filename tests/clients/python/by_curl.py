"""curl: as a proxy by -x, or at the gateway with the whole address in the request line."""

import base64
import sys
import tempfile
from functools import partial
from pathlib import Path

from command import Failed, read, run, temporary, work
from errands import API_TOKEN, serve

MODE = sys.argv[1]


def route(errand, path):
    url = errand.url(path)
    if MODE != "forward":
        version = ["--http1.1"] if MODE == "inspect-h1" else []
        return [*version, "--proxy", errand.proxy, url]
    # The proxy stands where a server would: so curl does not wrap the call in a tunnel.
    login, at = errand.proxy.removeprefix("http://").rsplit("@", 1)
    basic = base64.b64encode(login.encode()).decode()
    host = errand.base.removeprefix("https://")
    credentials = ["--header", f"Proxy-Authorization: Basic {basic}", "--header", f"Host: {host}"]
    return [*credentials, "--request-target", url, f"http://{at}/"]


def call(errand, path, body=None, kind=None):
    with tempfile.TemporaryDirectory() as folder:
        head = Path(folder, "head")
        common = ["--silent", "--show-error", "--max-time", "60", "--dump-header", head]
        common += ["--header", f"X-Cybozu-API-Token: {API_TOKEN}"]
        told = ["--write-out", "%{stderr}%{http_connect} %{http_code} %{http_version}"]
        sent = []
        if body is not None:
            Path(folder, "body").write_bytes(body)
            sent = ["--data-binary", f"@{folder}/body", "--header", f"Content-Type: {kind}"]
        output, error, _ = run(["curl", *common, *told, *sent, *route(errand, path)])
        connect, status, version = error.splitlines()[-1].split()[-3:]
        if status == "200":
            return output, f"HTTP/{version}"
        heads = head.read_text()
        retry_after = [
            line.split(":")[1].strip() for line in heads.splitlines() if line.lower().startswith("retry-after:")
        ]
        refused = int(status) or int(connect) or None
        raise Failed(heads + output.decode() + error, refused, *retry_after)


serve(partial(read, call), partial(work, call))
