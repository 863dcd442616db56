#!/usr/bin/env bash
# s-nail: a connection for each message. It writes the message anew from subject, recipient and text.
. "$(dirname "$0")/ways.sh"
[ "$tls" = tls ] && scheme=smtps || scheme=smtp
cat >"$folder/mailrc" <<CONFIG
set v15-compat
set mta=$scheme://$DEMO_SUBMITTER:$DEMO_PASSWORD@$host:$port
set smtp-auth=${mechanism,,}
$([ "$tls" = tls ] || echo set smtp-use-starttls)
set tls-ca-file=$DEMO_CA
set tls-ca-no-defaults
set tls-verify=strict
set hostname=localhost
set from=$SENDER
set sendwait
set ttycharset=utf-8
set sendcharsets=utf-8
unset save
unset record
CONFIG
export MAILRC=$folder/mailrc HOME=$folder LC_ALL=C.UTF-8
for file; do
    subject=$(sed -n 's/^Subject: //p;/^$/q' <(tr -d '\r' <"$file"))
    sed '1,/^\r*$/d' "$file" | tr -d '\r' | s-nail -:u -s "$subject" "$USER_NAME"
done
