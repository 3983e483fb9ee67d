"""Reads an app's records through the gateway by Python requests: a CONNECT tunnel.

See ../README.md for the environment and the line that is printed.
"""

import json
import os
import re

import requests


def say(**line):
    print(json.dumps(line))


def main():
    proxy = os.environ["PROXY_URL"]
    try:
        answer = requests.get(
            os.environ["BASE_URL"] + "/k/v1/records.json",
            params={"app": os.environ["APP"]},
            headers={"X-Cybozu-API-Token": os.environ["API_TOKEN"]},
            proxies={"https": proxy, "http": proxy},
            verify=os.environ["CA_FILE"],
            timeout=60,
        )
    except requests.exceptions.ProxyError as error:
        # Of a refused CONNECT nothing is shown but status and reason phrase.
        refused = re.search(r"Tunnel connection failed: (\d+) (\w+)", str(error))
        status, code = (int(refused[1]), refused[2]) if refused else (None, None)
        say(ok=False, status=status, code=code, message=str(error))
        return
    except requests.exceptions.RequestException as error:
        say(ok=False, status=None, code=None, message=str(error))
        return
    body = answer.json()
    if answer.ok:
        say(ok=True, records=body["records"])
    else:
        say(ok=False, status=answer.status_code, code=body.get("code"), message=body.get("message"))


main()
