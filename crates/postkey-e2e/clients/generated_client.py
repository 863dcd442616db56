"""A client generated from the OpenAPI document sends a message, finds it, and reads a refusal."""

import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

URL = os.environ["OPENAPI_URL"]
KEY = os.environ["OPENAPI_KEY"]

folder = pathlib.Path(tempfile.mkdtemp())
document = folder / "openapi.json"
document.write_bytes(urllib.request.urlopen(f"{URL}/openapi.json", timeout=30).read())
package = folder / "made"
generator = pathlib.Path(sys.executable).with_name("openapi-python-client")
config = folder / "config.json"
# The generator formats what it wrote with programs that need not be here.
# A message is bytes to it.
config.write_text(json.dumps({
    "post_hooks": [], "content_type_overrides": {"message/rfc822": "application/octet-stream"},
}))
made = subprocess.run(
    [generator, "generate", "--path", document, "--output-path", package, "--meta", "none", "--config", config],
    capture_output=True, text=True, timeout=120, check=False,
)
assert made.returncode == 0, made.stdout + made.stderr
# A warning means that an operation was left out.
assert "WARNING" not in made.stdout + made.stderr, made.stdout + made.stderr
print("generated without a warning")

sys.path.insert(0, str(folder))
part = lambda name: importlib.import_module(f"made.{name}")
AuthenticatedClient = part("client").AuthenticatedClient
models = part("models")
client = AuthenticatedClient(base_url=URL, token=KEY, timeout=30)

body = models.SendRequest(
    to=["ada@fabrikam.example"],
    subject="From a generated client",
    text="Hello",
    attachments=[models.Attachment(name="hello.txt", content="aGVsbG8=")],
)
answer = part("api.send.send").sync_detailed(client=client, body=body, idempotency_key="generated-1")
assert answer.status_code == 202, answer
taken = answer.parsed
print("sent", taken.id)

again = part("api.send.send").sync_detailed(client=client, body=body, idempotency_key="generated-1")
assert again.parsed.id == taken.id and again.headers["idempotency-replayed"] == "true", again
print("repeated without a second message")

shown = part("api.outbox.outbox_show").sync(client=client, id=taken.id)
assert shown.message.subject == "From a generated client", shown
assert shown.timeline[0].number == 1, shown
page = part("api.outbox.outbox_search").sync(client=client, subject="generated client", limit=1)
assert [message.id for message in page.messages] == [taken.id], page
print("found")

refused = part("api.send.send").sync(client=client, body=models.SendRequest(to=[]))
assert isinstance(refused, models.Problem) and refused.code == "transport.no_recipient", refused
print("refused with", refused.code)
