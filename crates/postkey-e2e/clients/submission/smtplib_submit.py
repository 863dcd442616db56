"""Python's smtplib: all messages over one connection. Arguments: starttls or tls, PLAIN or LOGIN, files."""

import os
import smtplib
import ssl
import sys

tls, mechanism, *files = sys.argv[1:]
context = ssl.create_default_context(cafile=os.environ["DEMO_CA"])
address = os.environ["DEMO_SMTPS" if tls == "tls" else "DEMO_SMTP"].split("://")[-1]
host, port = address.rsplit(":", 1)

if tls == "tls":
    server = smtplib.SMTP_SSL(host, int(port), local_hostname="localhost", timeout=60, context=context)
else:
    server = smtplib.SMTP(host, int(port), local_hostname="localhost", timeout=60)
with server:
    if tls != "tls":
        server.starttls(context=context)
    server.ehlo()
    # As login() does, but for one mechanism only.
    server.user, server.password = os.environ["DEMO_SUBMITTER"], os.environ["DEMO_PASSWORD"]
    answer = {"PLAIN": server.auth_plain, "LOGIN": server.auth_login}[mechanism]
    server.auth(mechanism, answer, initial_response_ok=mechanism == "PLAIN")
    for file in files:
        with open(file, "rb") as message:
            refused = server.sendmail(os.environ["SENDER"], [os.environ["USER_NAME"]], message.read())
        if refused:
            sys.exit(f"refused: {refused}")
