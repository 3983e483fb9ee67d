"""A mail server: aiosmtpd with STARTTLS and AUTH, which writes each mail that it takes as a line of JSON.

server.py PORT CERTIFICATE KEY MAILS: serves until its standard input is closed. Nobody is let in without
TLS and the right password. Recipients at never.example are refused for good, the first mail to each at
later.example is refused for now.
"""

import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

USER, PASSWORD = b"gateway", b"p@ss:w/rd"


class Handler:
    def __init__(self, path):
        self.mails = open(path, "a", encoding="utf-8")
        self.put_off = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.endswith("@never.example"):
            return "550 5.1.1 no such mailbox"
        if address.endswith("@later.example") and address not in self.put_off:
            self.put_off.add(address)
            return "450 4.2.1 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        line = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None,
            "user": session.auth_data.login.decode() if session.auth_data else None,
            "subject": message["Subject"],
            "headers": {name: str(value) for name, value in message.items()},
            "ascii": envelope.content.isascii(),
            "body": message.get_content(),
        }
        self.mails.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.mails.flush()
        return "250 2.0.0 taken"


def authenticate(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER, PASSWORD)
    return AuthResult(success=right, handled=right, auth_data=data if right else None)


def main():
    port, certificate, key, mails = sys.argv[1:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    controller = Controller(
        Handler(mails),
        hostname="127.0.0.1",
        port=int(port),
        tls_context=context,
        require_starttls=True,
        authenticator=authenticate,
        auth_required=True,
    )
    controller.start()
    print("ready", flush=True)
    sys.stdin.read()
    controller.stop()


main()
