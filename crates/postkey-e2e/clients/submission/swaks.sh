#!/usr/bin/env bash
# swaks: a connection for each message.
. "$(dirname "$0")/ways.sh"
[ "$tls" = tls ] && how=--tls-on-connect || how=--tls
# Arguments are for all to see; the environment is not.
export SWAKS_OPT_auth_password=$DEMO_PASSWORD
for file; do
    swaks --silent 2 --server "$host" --port "$port" --helo localhost "$how" --tls-verify --tls-ca-path "$DEMO_CA" \
        --auth "$mechanism" --auth-user "$DEMO_SUBMITTER" --from "$SENDER" --to "$USER_NAME" --data "@$file"
done
