"""What every client script shares: the emulator's environment, and how a check is told.

The variables are those that `postkey emulator --env FILE` writes. Import this before any client: they read the
authority that signs the emulator's certificates when they are imported.
"""

import os
import sys
import time

_NEEDED = """EMULATOR_AUTHORITY EMULATOR_GRAPH EMULATOR_CA EMULATOR_SMTP TENANT_ID CLIENT_ID CLIENT_SECRET
ADMIN_CLIENT_ID ADMIN_CLIENT_SECRET ADMIN_USER ADMIN_PASSWORD SENDER USER_NAME USER_PASSWORD""".split()

_missing = [name for name in _NEEDED if not os.environ.get(name)]
if _missing:
    sys.exit(f"not set: {', '.join(_missing)}; source the file of `postkey emulator --env FILE` and export it")

AUTHORITY_HOST = os.environ["EMULATOR_AUTHORITY"]
GRAPH = os.environ["EMULATOR_GRAPH"]
CA = os.environ["EMULATOR_CA"]
TENANT_ID = os.environ["TENANT_ID"]
AUTHORITY = f"{AUTHORITY_HOST}/{TENANT_ID}"
CLIENT_ID = os.environ["CLIENT_ID"]
CLIENT_SECRET = os.environ["CLIENT_SECRET"]
ADMIN_CLIENT_ID = os.environ["ADMIN_CLIENT_ID"]
ADMIN_CLIENT_SECRET = os.environ["ADMIN_CLIENT_SECRET"]
ADMIN_USER = os.environ["ADMIN_USER"]
ADMIN_PASSWORD = os.environ["ADMIN_PASSWORD"]
SENDER = os.environ["SENDER"]
USER_NAME = os.environ["USER_NAME"]
USER_PASSWORD = os.environ["USER_PASSWORD"]

# Microsoft's public client for its Graph command-line tools: in every tenant, with redirect http://localhost and
# device code allowed.
COMMAND_LINE_TOOLS = "14d82eec-204b-4c2f-b7e8-296a70dab67e"
GRAPH_DEFAULT = "https://graph.microsoft.com/.default"

# requests (MSAL, azure-identity) and httpx (the Graph SDK) read these.
os.environ.update(REQUESTS_CA_BUNDLE=CA, SSL_CERT_FILE=CA)
# A proxy of this machine must not come between us and loopback.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost,127.0.0.1"


def check(what, holds, seen=None):
    """Tells one finding, and ends the script when it is not as it should be."""
    if holds:
        print(f"ok    {what}", flush=True)
    else:
        print(f"FAIL  {what}: {seen!r}", flush=True)
        sys.exit(1)


def until(what, attempt, patience=60):
    """Repeats `attempt` until it returns something true: a tenant takes a moment to know what was just changed."""
    end = time.monotonic() + patience
    while True:
        outcome = attempt()
        if outcome:
            return outcome
        if time.monotonic() > end:
            check(what, False, outcome)
        time.sleep(0.3)
