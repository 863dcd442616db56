#!/bin/sh
# schemathesis against a running server: every operation with data that fits the OpenAPI document and data that does
# not, every check it has, and chains of requests along the document's links. Once as a submitter and once as whoever
# sees everything.
#
#   OPENAPI_URL            where the server is: http://127.0.0.1:8025
#   OPENAPI_KEY            an API key of a submitter, with every scope
#   OPENAPI_ADMIN_KEY      one of nobody in particular, with every scope
#   OPENAPI_SENDER         the submitter's sender
#   OPENAPI_MAILBOX        the sender's mailbox
#   OPENAPI_EXAMPLES       examples for each operation (default 25)
#   POSTKEY_TEST_PYTHON    Python in whose environment schemathesis is installed
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export PYTHONPATH="$here" PYTHONDONTWRITEBYTECODE=1 SCHEMATHESIS_HOOKS=schemathesis_hooks

run() {
    # The seed is fixed: what fails here fails again. A key reaches the program by its settings, not by its arguments.
    umask 077
    printf '[headers]\nAuthorization = "Bearer %s"\n' "$2" >schemathesis.toml
    echo "schemathesis as $1"
    status=0
    "$(dirname "$POSTKEY_TEST_PYTHON")/st" run "$OPENAPI_URL/openapi.json" --no-color --seed 25 --workers 2 \
        --max-examples "${OPENAPI_EXAMPLES:-25}" --suppress-health-check all --warnings off >said 2>&1 || status=$?
    # Some of the requests that it shows are very long.
    cut -c -2000 said
    return "$status"
}

run "a submitter" "$OPENAPI_KEY"
run "an administrator" "$OPENAPI_ADMIN_KEY"
