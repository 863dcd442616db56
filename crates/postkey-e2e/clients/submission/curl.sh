#!/usr/bin/env bash
# curl: all messages over one connection.
. "$(dirname "$0")/ways.sh"
export NO_PROXY=localhost,127.0.0.1 no_proxy=localhost,127.0.0.1
[ "$tls" = tls ] && scheme=smtps || scheme=smtp
number=0
for file; do
    [ $((number++)) = 0 ] || echo next
    # Options count up to the next "next".
    cat <<CONFIG
silent
show-error
max-time = 60
ssl-reqd
cacert = "$DEMO_CA"
url = "$scheme://$host:$port/localhost"
login-options = "AUTH=$mechanism"
user = "$DEMO_SUBMITTER:$DEMO_PASSWORD"
mail-from = "$SENDER"
mail-rcpt = "$USER_NAME"
upload-file = "$file"
write-out = "%{num_connects}\n"
CONFIG
done >"$folder/config"
curl --config "$folder/config" >"$folder/connects"
connections=$(awk "{ n += \$1 } END { print n }" "$folder/connects")
[ "$connections" = 1 ] || { echo "curl opened $connections connections for $# messages" >&2 && exit 1; }
