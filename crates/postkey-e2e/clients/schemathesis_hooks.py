"""What schemathesis cannot guess: as whom the API key may send, and that a key is for one message."""

import itertools
import os

import schemathesis
from schemathesis.generation import GenerationMode

SENDER = os.environ["OPENAPI_SENDER"]
MAILBOX = os.environ["OPENAPI_MAILBOX"]
NUMBERS = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    """A well-formed message goes out as somebody whom the key may use: anybody else is refused, and rightly."""
    meta = case.meta
    if case.operation.label != "POST /v1/send" or meta is None or meta.generation.mode != GenerationMode.POSITIVE:
        return
    if isinstance(case.body, dict):
        case.body = own(case.body)
    if case.query:
        case.query = own(case.query)
    if case.headers and case.headers.get("Idempotency-Key"):
        # Two messages under one key are refused, and rightly.
        case.headers["Idempotency-Key"] = f"{os.getpid()}-{next(NUMBERS)}"


def own(values):
    values = dict(values)
    if values.get("from"):
        values["from"] = MAILBOX
    if values.get("sender"):
        values["sender"] = SENDER
    return values
