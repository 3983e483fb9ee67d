"""Reads the feeds of the public listener as others' programs do: feeds.py URL SCHEMA.

Says as one line of JSON what it read."""

import csv
import io
import json
import sys
import urllib.request

import feedparser
import jsonschema

url, schema = sys.argv[1:]


def fetch(name):
    with urllib.request.urlopen(url + name, timeout=10) as answer:
        return answer.read(), answer.headers


ranges = json.loads(fetch("egress-ips.json")[0])
with open(schema, encoding="utf-8") as file:
    schema = json.load(file)
jsonschema.Draft202012Validator.check_schema(schema)
jsonschema.validate(ranges, schema, cls=jsonschema.Draft202012Validator)

data, headers = fetch("egress-ips.csv")
text = data.decode(headers.get_content_charset(), errors="strict")
assert text.replace("\r\n", "").isprintable(), "every line ends with CR and LF"
rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))

data, headers = fetch("egress-ips.atom")
feed = feedparser.parse(data, response_headers=dict(headers))
assert not feed.bozo, feed.bozo_exception
print(
    json.dumps(
        {
            "json": [prefix["ip_prefix"] for prefix in ranges["prefixes"]],
            "text": fetch("egress-ips.txt")[0].decode("ascii").splitlines(),
            "csv": rows,
            "version": feed.version,
            "feed": feed.feed.id,
            "updated": feed.feed.updated,
            "entries": [[entry.id, entry.title, entry.updated] for entry in feed.entries],
        }
    )
)
