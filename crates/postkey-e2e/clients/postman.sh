#!/usr/bin/env bash
# curl replays the token request that IBM's manual has its reader type into Postman, and the manual's malformed
# redirect address, which must be refused. A person's browser is played by browser.py.
set -euo pipefail
here=$(dirname "$0")
python=${POSTKEY_TEST_PYTHON:-python3}
export NO_PROXY=localhost,127.0.0.1 no_proxy=localhost,127.0.0.1

check() { # what, text, pattern
    if grep --quiet --extended-regexp "$3" <<<"$2"; then
        echo "ok    $1"
    else
        echo "FAIL  $1: $2"
        exit 1
    fi
}

# The form goes in by a configuration on standard input: arguments are for all to see.
post() { # address, extra lines of configuration
    curl --silent --show-error --max-time 30 --cacert "$EMULATOR_CA" --config - "$1" <<CONFIG
request = "POST"
header = "Content-Type: application/x-www-form-urlencoded"
data = "client_id=$CLIENT_ID"
data = "scope=offline_access%20https%3A%2F%2Fgraph.microsoft.com%2F.default"
data = "grant_type=authorization_code"
data-urlencode = "client_secret=$CLIENT_SECRET"
$2
CONFIG
}

authorize=$EMULATOR_AUTHORITY/$TENANT_ID/oauth2/v2.0/authorize
token=$EMULATOR_AUTHORITY/$TENANT_ID/oauth2/v2.0/token
redirect=http%3A%2F%2Flocalhost%2Fmyapps%2F
malformed=http%3A%2F%2Flocalhost%2myapps%2F
question="client_id=$CLIENT_ID&response_type=code&response_mode=query&scope=offline_access%20https%3A%2F%2Fgraph.microsoft.com%2F.default&state=12345"

# What it prints when it gets nowhere is for the check that follows.
sign_in() { "$python" "$here/browser.py" "$authorize?$question&redirect_uri=$redirect" http://localhost/myapps/ || true; }

answer=$(sign_in)
check "the authorize address leads back with a code" "$answer" '^code=.+'
code=$(sed -n 's/^code=//p' <<<"$answer")
answer=$(post "$token" "data-urlencode = \"code=$code\"
data = \"redirect_uri=$redirect\"")
check "the request gets an access token" "$answer" '"access_token": *"[^"]+"'
check "and a refresh token" "$answer" '"refresh_token": *"[^"]+"'
check "of type Bearer" "$answer" '"token_type": *"Bearer"'

answer=$(curl --silent --show-error --max-time 30 --location --cacert "$EMULATOR_CA" \
    "$authorize?$question&redirect_uri=$malformed")
check "the malformed redirect is refused on the sign-in page" "$answer" 'AADSTS50011'

code=$(sign_in | sed -n 's/^code=//p')
answer=$(post "$token" "data-urlencode = \"code=$code\"
data = \"redirect_uri=$malformed\"")
check "and at the token endpoint" "$answer" 'AADSTS50011'
