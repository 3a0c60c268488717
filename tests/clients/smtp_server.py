"""A server that takes mails (aiosmtpd), and misbehaves as the first word of a recipient asks.

Prints "listening <port>", then a line of JSON for each mail that it takes: who it is from and for, whether it came
encrypted and by whom, its headers and its parts. What recipients ask, of one address each:

grey        450 the first time, then it is taken
busy        451 always
nobody      550 5.1.1: there is no such letter box
bare        550 without an enhanced code: nobody knows why
policy      550 5.7.1: the mail is not wanted
refuse      it is taken, and the mail then refused for good (554)
later       it is taken, and the mail then refused for now the first time (452)
cut         the connection is cut at once, the first time
cutlate     the connection is cut when the mail was taken, the first time
hang        no answer comes
"""

import argparse
import asyncio
import collections
import email
import email.policy
import hashlib
import json
import ssl

from aiosmtpd.smtp import SMTP, AuthResult


def part(part):
    content = part.get_payload(decode=True) or b""
    is_text = part.get_content_maintype() == "text"
    return {
        "type": part.get_content_type(),
        "disposition": part.get_content_disposition(),
        "name": part.get_filename(),
        "content_id": part["content-id"] and str(part["content-id"]),
        "sha256": hashlib.sha256(content).hexdigest(),
        "text": part.get_content() if is_text else None,
    }


class Handler:
    def __init__(self):
        self.seen = collections.Counter()

    def first(self, word, address):
        """Whether this is asked for the first time for an address."""
        self.seen[word, address] += 1
        return self.seen[word, address] == 1

    async def handle_RCPT(self, server, session, envelope, address, options):
        word = address.split("@")[0].split("-")[0]
        if word == "grey" and self.first(word, address):
            return "450 4.2.0 come back later"
        if word == "busy":
            return "451 4.3.0 not now"
        if word == "nobody":
            return "550 5.1.1 no such user"
        if word == "bare":
            return "550 not here"
        if word == "policy":
            return "550 5.7.1 relaying denied"
        if word == "cut" and self.first(word, address):
            server.transport.abort()
            return "421 gone"
        if word == "hang":
            print(json.dumps({"hangs": address}), flush=True)
            await asyncio.sleep(3600)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        words = {address.split("@")[0].split("-")[0]: address for address in envelope.rcpt_tos}
        if "refuse" in words:
            return "554 5.6.0 not this mail"
        if "later" in words and self.first("later", words["later"]):
            return "452 4.3.1 disk full"
        self.tell(server, session, envelope)
        if "cutlate" in words and self.first("cutlate", words["cutlate"]):
            server.transport.abort()
        return "250 2.0.0 taken"

    def tell(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        leaves = [leaf for leaf in mail.walk() if not leaf.is_multipart()]
        print(
            json.dumps({
                "mail": {
                    "from": envelope.mail_from,
                    "to": envelope.rcpt_tos,
                    "tls": server.transport.get_extra_info("ssl_object") is not None,
                    "user": session.auth_data and session.auth_data.login.decode(),
                    "headers": {name.lower(): str(value) for name, value in mail.items()},
                    "type": mail.get_content_type(),
                    "parts": [part(leaf) for leaf in leaves],
                }
            }),
            flush=True,
        )


def authenticate(server, session, envelope, mechanism, data):
    success = (data.login, data.password) == (b"ada", b"p@ss word")
    return AuthResult(success=success, handled=False, auth_data=data)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=["plain", "starttls", "implicit"], default="plain")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--auth", action="store_true")
    arguments = parser.parse_args()
    tls = None
    if arguments.mode != "plain":
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(arguments.certificate, arguments.key)
    starttls = tls if arguments.mode == "starttls" else None
    handler = Handler()

    def protocol():
        return SMTP(
            handler,
            hostname="mail.test",
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=authenticate if arguments.auth else None,
            auth_required=arguments.auth,
            # The encryption from the first byte is not its own doing.
            auth_require_tls=arguments.mode == "starttls",
            data_size_limit=64 << 20,
        )

    loop = asyncio.get_running_loop()
    implicit = tls if arguments.mode == "implicit" else None
    server = await loop.create_server(protocol, "127.0.0.1", arguments.port, ssl=implicit)
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
