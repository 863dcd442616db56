"""What schemathesis cannot guess of this installation: addresses that the API key may send as."""

import os

import schemathesis
from schemathesis.generation import GenerationMode

SENDER = os.environ["OPENAPI_SENDER"]
MAILBOX = os.environ["OPENAPI_MAILBOX"]


@schemathesis.hook
def before_call(context, case, kwargs):
    """A well-formed message goes out as somebody whom the key may use: anybody else is refused, and rightly."""
    meta = case.meta
    if case.operation.label != "POST /v1/send" or meta is None or meta.generation.mode != GenerationMode.POSITIVE:
        return
    if isinstance(case.body, dict):
        case.body = own(case.body)
    if case.query:
        case.query = own(dict(case.query))


def own(values):
    values = dict(values)
    if values.get("from"):
        values["from"] = MAILBOX
    if values.get("sender"):
        values["sender"] = SENDER
    return values
