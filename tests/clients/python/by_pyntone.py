"""pyntone, a kintone client on requests. It has no setting for a proxy: the environment says it."""

import os

from pyntone import ApiTokenAuth, KintoneRestAPIClient
from pyntone.http.http_client import KintoneError

from errands import API_TOKEN, APP, file_key, serve


def client(errand):
    os.environ["HTTPS_PROXY"] = errand.proxy
    return KintoneRestAPIClient(base_url=errand.base, auth=ApiTokenAuth(api_token=API_TOKEN))


def read(errand):
    return client(errand).record.get_records(app=APP, query="order by $id asc"), None


def work(errand):
    made = client(errand)
    upload = made.file.upload_file({"name": "a.bin", "data": errand.content()})
    record = errand.record(upload["fileKey"])["record"]
    added = made.record.add_record(app=APP, record=record)
    shown = made.record.get_record(app=APP, record_id=added["id"])
    content = made.file.download_file(file_key(shown))
    return made.record.get_records(app=APP, query="order by $id asc"), content, None


# The status is an attribute of its errors under another name.
KintoneError.status = property(lambda error: error.status_code)
serve(read, work)
