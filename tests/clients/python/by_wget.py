"""wget: a CONNECT tunnel for https:, absolute form for http:."""

import os
from functools import partial

from command import Failed, read, run, temporary, work
from errands import API_TOKEN, serve


def call(errand, path, body=None, kind=None):
    # By the environment: that is how wget is told of a proxy.
    environment = os.environ | {"https_proxy": errand.proxy, "http_proxy": errand.proxy}
    common = ["--no-verbose", "--server-response", "--content-on-error", "--tries=1", "--timeout=60"]
    trust = [f"--ca-certificate={os.environ['CA_FILE']}", f"--header=X-Cybozu-API-Token: {API_TOKEN}"]
    command = ["wget", *common, *trust, "--output-document=-", errand.url(path)]
    if body is None:
        output, error, status = run(command, environment)
    else:
        with temporary(body) as file:
            sent = [f"--post-file={file.name}", f"--header=Content-Type: {kind}"]
            output, error, status = run([*command, *sent], environment)
    if status == 0:
        return output, "HTTP/1.1"
    retry_after = [line.split(":")[1].strip() for line in error.splitlines() if "Retry-After:" in line]
    raise Failed(error + output.decode(), None, *retry_after)


serve(partial(read, call), partial(work, call))
