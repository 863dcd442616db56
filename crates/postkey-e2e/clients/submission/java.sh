#!/usr/bin/env bash
# Java Mail, see Submit.java.
. "$(dirname "$0")/ways.sh"
jars=/usr/share/java
keytool -importcert -noprompt -alias ca -file "$DEMO_CA" -keystore "$folder/trust" -storepass changeit
java -XX:TieredStopAtLevel=1 -Djavax.net.ssl.trustStore="$folder/trust" -Djavax.net.ssl.trustStorePassword=changeit \
    -cp "$jars/javax.mail.jar:$jars/javax.activation.jar" "$(dirname "$0")/Submit.java" "$tls" "$mechanism" "$@"
