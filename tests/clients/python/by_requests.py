"""Python requests: a CONNECT tunnel for https:, absolute form for http:."""

import requests

from errands import APP, KINTONE, Refused, file_key, serve


def session(errand):
    made = requests.Session()
    made.headers.update(KINTONE)
    made.proxies = {"https": errand.proxy, "http": errand.proxy}
    return made


def call(made, method, url, **rest):
    answer = made.request(method, url, timeout=60, **rest)
    try:
        answer.raise_for_status()
    except requests.HTTPError as error:
        raise Refused(error, answer.text, answer.headers) from error
    return answer


def records(made, errand):
    answer = call(made, "GET", errand.url("records.json"), params={"app": APP, "query": "order by $id asc"})
    return answer.json(), f"HTTP/{answer.raw.version / 10}"


def read(errand):
    with session(errand) as made:
        return records(made, errand)


def work(errand):
    with session(errand) as made:
        with open(errand.file, "rb") as file:
            upload = call(made, "POST", errand.url("file.json"), files={"file": ("a.bin", file)})
        record = errand.record(upload.json()["fileKey"])
        added = call(made, "POST", errand.url("record.json"), json=record).json()
        shown = call(made, "GET", errand.url("record.json"), params={"app": APP, "id": added["id"]})
        key = file_key(shown.json())
        content = call(made, "GET", errand.url("file.json"), params={"fileKey": key}).content
        answer, version = records(made, errand)
        return answer, content, version


serve(read, work)
