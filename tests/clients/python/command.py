"""What the clients that are commands share: a command for each call."""

import json
import subprocess
import tempfile
from pathlib import Path

from errands import APP, file_key

BOUNDARY = "a-boundary-of-kintone-egress-tests"
RECORDS = f"records.json?app={APP}&query=order%20by%20%24id%20asc"


class Failed(Exception):
    """What a command wrote before it failed."""

    def __init__(self, said, status=None, retry_after=None):
        super().__init__(said)
        self.status = status
        self.retry_after = retry_after


def run(command, environment=None):
    """Runs a command; its output as bytes and its exit status."""
    done = subprocess.run(command, capture_output=True, env=environment, timeout=100)
    return done.stdout, done.stderr.decode(errors="replace"), done.returncode


def multipart(content):
    """A body with this file, as kintone wants it, and its type."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={BOUNDARY}"


def work(call, errand):
    """Adds a record with a file, fetches the file, reads the records. `call(errand, path, body, type)` makes a call."""
    body, kind = multipart(errand.content())
    key = json.loads(call(errand, "file.json", body, kind)[0])["fileKey"]
    record = json.dumps(errand.record(key)).encode()
    added = json.loads(call(errand, "record.json", record, "application/json")[0])
    shown = json.loads(call(errand, f"record.json?app={APP}&id={added['id']}")[0])
    content, _ = call(errand, f"file.json?fileKey={file_key(shown)}")
    answer, version = call(errand, RECORDS)
    return json.loads(answer), content, version


def read(call, errand):
    answer, version = call(errand, RECORDS)
    return json.loads(answer), version


def temporary(content):
    """A file with this content, gone when the context is left."""
    file = tempfile.NamedTemporaryFile()
    Path(file.name).write_bytes(content)
    return file
