#!/usr/bin/env bash
# curl, msmtp and Python's smtplib hand a message in by SMTP submission with XOAUTH2.
set -euo pipefail
here=$(dirname "$0")
python=${POSTKEY_TEST_PYTHON:-python3}
server=${EMULATOR_SMTP#*://}
host=${server%:*} port=${server##*:}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
umask 077

"$python" "$here/smtp_token.py" >"$folder/token"
printf 'From: %s\r\nTo: %s\r\nSubject: by hand\r\n\r\n.a dot first\r\n' "$SENDER" "$USER_NAME" >"$folder/message"

curl --silent --show-error --max-time 30 --ssl-reqd --cacert "$EMULATOR_CA" --config - <<CONFIG
url = "smtp://$host:$port"
login-options = "AUTH=XOAUTH2"
user = "$SENDER:"
oauth2-bearer = "$(cat "$folder/token")"
mail-from = "$SENDER"
mail-rcpt = "$USER_NAME"
upload-file = "$folder/message"
CONFIG
echo "ok    curl sends with XOAUTH2"

cat >"$folder/msmtprc" <<CONFIG
account default
host $host
port $port
timeout 30
tls on
tls_starttls on
tls_trust_file $EMULATOR_CA
auth xoauth2
user $SENDER
from $SENDER
passwordeval "cat $folder/token"
CONFIG
msmtp --file="$folder/msmtprc" "$USER_NAME" <"$folder/message"
echo "ok    msmtp sends with XOAUTH2"

"$python" "$here/smtplib_send.py" "$host" "$port" "$folder/token"
