#!/usr/bin/env bash
# PHP's mail(), with msmtp as its sendmail: a connection for each message.
. "$(dirname "$0")/ways.sh"
. "$(dirname "$0")/msmtp_settings.sh"
echo "sendmail_path = \"msmtp --file=$folder/msmtprc --read-recipients\"" >"$folder/php.ini"
for file; do
    php --php-ini "$folder/php.ini" "$(dirname "$0")/mail.php" "$file"
done
