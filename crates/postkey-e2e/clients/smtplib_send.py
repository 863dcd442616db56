"""Python's smtplib with XOAUTH2: once with an initial response, once without. Arguments: host, port, token file."""

import smtplib
import ssl
import sys

import environment
from environment import check

host, port, token_file = sys.argv[1:]
with open(token_file) as file:
    token = file.read()
answer = f"user={environment.SENDER}\x01auth=Bearer {token}\x01\x01"

for at_once in (True, False):
    with smtplib.SMTP(host, int(port), timeout=30) as server:
        server.starttls(context=ssl.create_default_context(cafile=environment.CA))
        server.ehlo()
        reply = server.auth("XOAUTH2", lambda challenge=None: answer, initial_response_ok=at_once)
        check(f"smtplib signs in, {'at once' if at_once else 'in two steps'}", reply[0] == 235, reply)
        refused = server.sendmail(environment.SENDER, [environment.USER_NAME], "Subject: smtplib\r\n\r\nhello\r\n")
        check("and sends", refused == {}, refused)
