#!/usr/bin/env bash
# mutt: a connection for each message. It writes the message anew from a draft.
. "$(dirname "$0")/ways.sh"
[ "$tls" = tls ] && scheme=smtps || scheme=smtp
cat >"$folder/muttrc" <<CONFIG
set smtp_url="$scheme://$DEMO_SUBMITTER@$host:$port"
set smtp_pass="$DEMO_PASSWORD"
set smtp_authenticators="${mechanism,,}"
set ssl_starttls=yes
set ssl_force_tls
set ssl_verify_host
set ssl_ca_certificates_file="$DEMO_CA"
set certificate_file=/dev/null
set hostname=localhost
set from="$SENDER"
set use_from
set envelope_from_address="$SENDER"
set use_envelope_from
set charset=utf-8
set send_charset="us-ascii:utf-8"
set copy=no
CONFIG
export LC_ALL=C.UTF-8 HOME=$folder
for file; do
    mutt -n -F "$folder/muttrc" -H "$file" </dev/null
done
