# Writes msmtp's settings for this call to "$folder/msmtprc".
cat >"$folder/msmtprc" <<CONFIG
account default
host $host
port $port
timeout 30
tls on
tls_starttls $([ "$tls" = tls ] && echo off || echo on)
tls_trust_file $DEMO_CA
auth ${mechanism,,}
user $DEMO_SUBMITTER
password $DEMO_PASSWORD
from $SENDER
CONFIG
