"""cli-kintone: import with attachments, upsert, export by pages and by a cursor, delete."""

import csv
import os
import tempfile
from pathlib import Path

from command import Failed, run
from errands import API_TOKEN, APP, serve

PROGRAM = Path(__file__).parent.parent / "node/node_modules/@kintone/cli/cli.js"
NUMBER = "レコード番号"


def cli(errand, *arguments):
    """Runs a subcommand of `record`; what it wrote."""
    target = ["--base-url", errand.base, "--app", APP, "--api-token", API_TOKEN, "--proxy", errand.proxy]
    output, error, status = run(["node", PROGRAM, "record", *arguments, *target])
    if status:
        raise Failed(output.decode() + error)
    return output.decode()


def rows(text):
    """The records that an export wrote, in kintone's shape."""
    lines = csv.DictReader(text.lstrip("\ufeff").splitlines())
    return [{code: {"value": value} for code, value in line.items()} for line in lines]


def write(path, *lines):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(lines)
    return path


def read(errand):
    return {"records": rows(cli(errand, "export", "--fields", f"{NUMBER},title,tel,num"))}, None


def work(errand):
    with tempfile.TemporaryDirectory() as folder:
        there, back = Path(folder, "there"), Path(folder, "back")
        there.mkdir()
        (there / "a.bin").write_bytes(errand.content())
        second = errand.title + " 2"
        head = ["title", "tel", "num", "files"]
        new = write(there / "new.csv", head, [errand.title, "1", "1", "a.bin"], [second, "2", "2", ""])
        cli(errand, "import", "--file-path", new, "--attachments-dir", there)
        # The first is changed, a third is added.
        third = errand.title + " 3"
        changed = write(there / "changed.csv", head[:3], [errand.title, "03-0000-1111", "42"], [third, "3", "3"])
        cli(errand, "import", "--file-path", changed, "--update-key", "title")
        # By a cursor.
        ordered = rows(cli(errand, "export", "--order-by", "num desc", "--fields", f"{NUMBER},title,num"))
        numbers = [float(row["num"]["value"]) for row in ordered]
        if numbers != sorted(numbers, reverse=True) or len(numbers) < 3:
            raise Failed(f"the cursor gave them in this order: {numbers}")
        unwanted = [[row[NUMBER]["value"]] for row in ordered if row["title"]["value"] in (second, third)]
        cli(errand, "delete", "--file-path", write(there / "gone.csv", [NUMBER], *unwanted), "--yes")
        cli(errand, "export", "--attachments-dir", back)
        contents = [file.read_bytes() for file in back.rglob("*") if file.is_file()]
        if len(contents) != 1:
            raise Failed(f"{len(contents)} files came back")
        return read(errand)[0], contents[0], None


# An HTTP proxy of the environment would be used besides the one that is given.
for name in ("HTTPS_PROXY", "https_proxy"):
    os.environ.pop(name, None)
serve(read, work)
