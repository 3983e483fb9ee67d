"""What every client in Python shares: errands come in on stdin, one a line, and each is answered by a line of JSON.

See ../README.md for both.
"""

import hashlib
import json
import os
import sys
from dataclasses import dataclass

APP = os.environ["APP"]
API_TOKEN = os.environ["API_TOKEN"]
KINTONE = {"X-Cybozu-API-Token": API_TOKEN}


@dataclass
class Errand:
    proxy: str
    base: str
    title: str
    file: str

    def url(self, path):
        return f"{self.base}/k/v1/{path}"

    def record(self, key):
        """A new record with the file of this key."""
        values = {"title": self.title, "tel": "03-0000-1111", "num": "42", "files": [{"fileKey": key}]}
        return {"app": APP, "record": {code: {"value": value} for code, value in values.items()}}

    def content(self):
        with open(self.file, "rb") as file:
            return file.read()


class Refused(Exception):
    """An answer of 400 and above: what a user prints of it, and its headers."""

    def __init__(self, error, text, headers):
        super().__init__(f"{error}\n{text}")
        self.retry_after = headers.get("Retry-After")


def serve(read, work):
    """Runs errands until there are no more. `read(errand)` gives the answer of records.json, `work(errand)` that and a file."""
    for line in sys.stdin:
        do, *rest = line.rstrip("\n").split("\t")
        errand = Errand(*rest)
        try:
            if do == "work":
                answer, content, version = work(errand)
                said = {"file_sha256": hashlib.sha256(content).hexdigest()}
            else:
                answer, version = read(errand)
                said = {}
            said |= {"ok": True, "answer": answer, "version": version}
        except Exception as error:  # What a client raises is what is asked for.
            said = {
                "ok": False,
                "said": f"{type(error).__name__}: {error}",
                "status": getattr(error, "status", None),
                "retry_after": getattr(error, "retry_after", None),
            }
        print(json.dumps(said), flush=True)


def file_key(record):
    """The key by which a record's file is fetched."""
    return record["record"]["files"]["value"][0]["fileKey"]
