"""aiohttp: a CONNECT tunnel for https:, absolute form for http:."""

import asyncio
import json

import aiohttp

from errands import APP, KINTONE, Refused, file_key, serve

TIMEOUT = aiohttp.ClientTimeout(total=60)


async def call(session, errand, method, path, **rest):
    async with session.request(method, errand.url(path), proxy=errand.proxy, **rest) as answer:
        if not answer.ok:
            text = await answer.text()
            try:
                answer.raise_for_status()
            except aiohttp.ClientResponseError as error:
                raise Refused(error, text, answer.headers) from error
        version = f"HTTP/{answer.version.major}.{answer.version.minor}"
        return await answer.read(), version


async def call_json(*args, **rest):
    content, _ = await call(*args, **rest)
    return json.loads(content)


async def records(session, errand):
    query = {"app": APP, "query": "order by $id asc"}
    content, version = await call(session, errand, "GET", "records.json", params=query)
    return json.loads(content), version


async def read_one(errand):
    async with aiohttp.ClientSession(headers=KINTONE, timeout=TIMEOUT) as session:
        return await records(session, errand)


async def work_one(errand):
    async with aiohttp.ClientSession(headers=KINTONE, timeout=TIMEOUT) as session:
        form = aiohttp.FormData()
        form.add_field("file", errand.content(), filename="a.bin")
        upload = await call_json(session, errand, "POST", "file.json", data=form)
        record = errand.record(upload["fileKey"])
        added = await call_json(session, errand, "POST", "record.json", json=record)
        query = {"app": APP, "id": added["id"]}
        key = file_key(await call_json(session, errand, "GET", "record.json", params=query))
        content, _ = await call(session, errand, "GET", "file.json", params={"fileKey": key})
        answer, version = await records(session, errand)
        return answer, content, version


serve(lambda errand: asyncio.run(read_one(errand)), lambda errand: asyncio.run(work_one(errand)))
