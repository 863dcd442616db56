#!/usr/bin/env bash
# msmtp: a connection for each message.
. "$(dirname "$0")/ways.sh"
. "$(dirname "$0")/msmtp_settings.sh"
for file; do
    msmtp --file="$folder/msmtprc" "$USER_NAME" <"$file"
done
