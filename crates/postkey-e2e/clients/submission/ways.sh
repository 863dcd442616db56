# What the shell scripts share: where the server is and how this call shall reach it. Sourced with the script's own
# arguments: TLS (starttls or tls), MECHANISM (PLAIN or LOGIN), and the files, one message each.
set -euo pipefail
umask 077
tls=$1 mechanism=$2
shift 2
case $tls in
starttls) server=${DEMO_SMTP#*://} ;;
tls) server=${DEMO_SMTPS#*://} ;;
*) echo "neither starttls nor tls: $tls" >&2 && exit 2 ;;
esac
host=${server%:*} port=${server##*:}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
