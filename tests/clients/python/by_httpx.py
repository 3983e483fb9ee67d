"""httpx: a CONNECT tunnel for https:, absolute form for http:. By h2 where it is asked to, with the h2 package."""

import sys

import httpx

from errands import APP, KINTONE, Refused, file_key, serve

HTTP2 = sys.argv[1] == "inspect-h2"


def client(errand):
    return httpx.Client(headers=KINTONE, proxy=errand.proxy, http2=HTTP2, timeout=60)


def call(made, method, url, **rest):
    answer = made.request(method, url, **rest)
    try:
        answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        raise Refused(error, answer.text, answer.headers) from error
    return answer


def records(made, errand):
    answer = call(made, "GET", errand.url("records.json"), params={"app": APP, "query": "order by $id asc"})
    return answer.json(), answer.http_version


def read(errand):
    with client(errand) as made:
        return records(made, errand)


def work(errand):
    with client(errand) as made:
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
