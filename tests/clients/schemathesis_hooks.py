"""How bodies are written and read that are not JSON, for schemathesis."""

import json

import schemathesis


def raw(value):
    """A body that stands for bytes: text as it is, anything else as JSON."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode(errors="replace")


@schemathesis.serializer("application/offset+octet-stream")
def piece(ctx, value):
    return raw(value)


@schemathesis.serializer("application/x-ndjson", "application/jsonl")
def lines(ctx, value):
    return raw(value) + b"\n"


@schemathesis.deserializer("application/x-ndjson")
def first_line(ctx, response):
    return json.loads(response.content.split(b"\n")[0])
