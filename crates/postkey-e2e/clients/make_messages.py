"""Makes real messages with real programs: Python's email package, swaks, mutt, nodemailer, and parts as Outlook
writes them. `make_messages.py FOLDER FROM TO` writes one NAME.eml each, as its maker wrote it, bytes and all.
"""

import base64
import email.policy
import os
import pathlib
import random
import socket
import subprocess
import sys
import textwrap
import threading
from email.message import EmailMessage

HERE = pathlib.Path(__file__).resolve().parent
NODE = os.environ.get("POSTKEY_TEST_NODE")
DATE = "Tue, 03 Nov 2026 09:30:00 +0100"
# The same bytes each time: a failure can be looked at again.
CHANCE = random.Random(20261103)
MEGABYTE = 1024 * 1024


class Maker:
    """Where the messages go, and whose they are."""

    def __init__(self, folder, sender, recipient):
        self.folder, self.sender, self.recipient = pathlib.Path(folder), sender, recipient
        self.folder.mkdir(parents=True, exist_ok=True)
        self.made = []

    def keep(self, name, content):
        (self.folder / f"{name}.eml").write_bytes(content)
        self.made.append(name)

    def message_id(self, name):
        return f"<{name}.{CHANCE.getrandbits(64):016x}@{self.sender.split('@')[1]}>"

    def attachment(self, name, content):
        file = self.folder / name
        file.write_bytes(content)
        return file


def started(maker, name, subject):
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = f"Büro für Akten <{maker.sender}>"
    message["To"] = maker.recipient
    message["Subject"] = subject
    message["Date"] = DATE
    message["Message-ID"] = maker.message_id(name)
    return message


def by_python(maker):
    """Python's email package."""

    def keep(name, message):
        maker.keep(name, message.as_bytes())

    message = started(maker, "python-quoted-printable", "Größenänderung: 100 % = alles, „Zitat“ – 日本語 🎉")
    message.set_content("Größe = 5 m²\nEin Gleichheitszeichen = am Ende =\nLeerzeichen am Ende \t\n.Punkt zuerst\n"
                        + "sehr lang " * 60 + "\n", cte="quoted-printable")
    keep("python-quoted-printable", message)

    message = started(maker, "python-8bit", "acht Bit")
    message.set_content("Grüße, čau, 你好\n.\n..\nFrom here on: not an mbox\n", cte="8bit")
    keep("python-8bit", message)

    message = started(maker, "python-7bit-latin1", "latin")
    message.set_content("Grüße aus Köln\n", charset="iso-8859-15", cte="quoted-printable")
    keep("python-7bit-latin1", message)

    message = started(maker, "python-long-lines", "long " * 150)
    message["X-Case"] = "4711; " * 100
    message.set_content(f"{'x' * 998}\n{'y' * 76}\n", cte="7bit")
    keep("python-long-lines", message)

    message = started(maker, "python-nested", "parts in parts")
    message.set_content("plain text\n")
    message.add_alternative("<p>plain <b>text</b> <img src='cid:logo@postkey'></p>", subtype="html")
    message.get_payload()[1].add_related(CHANCE.randbytes(3000), "image", "png", cid="<logo@postkey>")
    message.add_attachment(CHANCE.randbytes(50_000), "application", "pdf", filename="Übersicht – Teil 1.pdf")
    message.add_attachment("a;b\r\n1;2\r\n", subtype="csv", filename="table.csv")
    message.add_attachment(b"", "application", "octet-stream", filename="empty.bin")
    keep("python-nested", message)

    inner = started(maker, "python-inner", "the forwarded one")
    inner.set_content("I was sent before.\n")
    message = started(maker, "python-forwarded", "Fwd: the forwarded one")
    message.set_content("see below\n")
    message.add_attachment(inner)
    keep("python-forwarded", message)

    message = started(maker, "python-invitation", "Invitation: hearing")
    message.set_content("You are invited.\n")
    calendar = textwrap.dedent(f"""\
        BEGIN:VCALENDAR
        VERSION:2.0
        PRODID:-//postkey//tests//EN
        METHOD:REQUEST
        BEGIN:VEVENT
        UID:{CHANCE.getrandbits(64):x}@contoso.example
        DTSTAMP:20261103T083000Z
        DTSTART:20261110T090000Z
        DTEND:20261110T100000Z
        SUMMARY:Anhörung – Raum Süd
        ORGANIZER:mailto:{maker.sender}
        ATTENDEE;RSVP=TRUE:mailto:{maker.recipient}
        END:VEVENT
        END:VCALENDAR
        """).replace("\n", "\r\n")
    message.add_alternative(calendar, subtype="calendar", params={"method": "REQUEST"}, cte="base64")
    keep("python-invitation", message)

    message = started(maker, "python-headers", "Re: Fwd: thread")
    message["Cc"] = ", ".join(f'"Person, {n}" <{maker.recipient}>' for n in range(3))
    message["Reply-To"] = f"Antwort <{maker.sender}>"
    message["In-Reply-To"] = "<first@contoso.example>"
    message["References"] = " ".join(f"<reference-{n}@contoso.example>" for n in range(12))
    message["List-Unsubscribe"] = "<https://contoso.example/unsubscribe?id=1>"
    message["Importance"] = "high"
    message["X-Mailer"] = "postkey's tests"
    message["X-Empty"] = ""
    message.set_content("headers above\n")
    keep("python-headers", message)

    message = started(maker, "python-12-megabytes", "a large one")
    message["In-Reply-To"] = "<first@contoso.example>"
    message["References"] = "<zeroth@contoso.example> <first@contoso.example>"
    message["List-Unsubscribe"] = "<https://contoso.example/unsubscribe?id=1>"
    message["X-Case"] = "4711"
    message.set_content("twelve megabytes attached\n")
    message.add_attachment(CHANCE.randbytes(12 * MEGABYTE), "application", "zip", filename="archive.zip")
    keep("python-12-megabytes", message)


class Sink:
    """An SMTP server for one message on loopback, which keeps it."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(60)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def message(self):
        self._thread.join(60)
        self._listener.close()
        return self._message

    def _serve(self):
        connection, _ = self._listener.accept()
        connection.settimeout(60)
        with connection, connection.makefile("rwb") as lines:

            def say(reply):
                lines.write(reply + b"\r\n")
                lines.flush()

            say(b"220 sink")
            for line in lines:
                verb = line[:4].upper()
                if verb == b"DATA":
                    say(b"354 go on")
                    self._message = b"".join(
                        part[1:] if part.startswith(b".") else part for part in iter(lines.readline, b".\r\n")
                    )
                say(b"221 bye" if verb == b"QUIT" else b"250 ok")


def by_swaks(maker):
    """swaks, as it speaks to a server."""
    file = maker.attachment("swaks attachment.txt", b"attached by swaks\n" * 50)
    picture = maker.attachment("picture.png", CHANCE.randbytes(5000))
    for name, extra in {
        "swaks-plain": ["--body", "a plain body\n.\n..two dots\nGrüße"],
        "swaks-attachment": ["--body", "two files\n", "--attach-type", "text/plain", "--attach-name", file.name,
                             "--attach", f"@{file}", "--attach-type", "image/png", "--attach", f"@{picture}"],
    }.items():
        sink = Sink()
        subprocess.run(
            ["swaks", "--silent", "3", "--server", sink.address, "--helo", "localhost", "--from", maker.sender,
             "--to", maker.recipient, "--header", "Subject: =?UTF-8?Q?swaks_gr=C3=BC=C3=9Ft?=",
             "--header", f"Date: {DATE}", "--header", f"Message-Id: {maker.message_id(name)}", *extra],
            check=True, timeout=60)
        maker.keep(name, sink.message())
    file.unlink()
    picture.unlink()


def by_mutt(maker):
    """mutt hands its message to a program that keeps it instead of sending it."""
    file = maker.attachment("Plan für 2026.txt", "Pläne\n".encode() * 40)
    for name, extra in {"mutt-plain": [], "mutt-attachment": ["-a", str(file)]}.items():
        kept = maker.folder / f"{name}.kept"
        keeper = maker.folder / "keep"
        keeper.write_text(f"#!/bin/sh\nexec cat >'{kept}'\n")
        keeper.chmod(0o700)
        settings = [f"set sendmail='{keeper}'", "set use_from", f"set from='{maker.sender}'", "set realname='Jörg'",
                    "set charset=utf-8", "set send_charset='us-ascii:utf-8'", "set copy=no", "set user_agent",
                    "set sendmail_wait=20"]
        words = ["mutt", "-n", "-F", "/dev/null"]
        for setting in settings:
            words += ["-e", setting]
        words += ["-s", "Grüße von mutt", *extra, "--", maker.recipient]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(maker.folder), "EMAIL": maker.sender}
        body = "Liebe Grüße\n\nFrom the start of a line\n.\n-- \nmutt\n".encode()
        subprocess.run(words, input=body, check=True, env=environment, timeout=60)
        maker.keep(name, kept.read_bytes())
        kept.unlink()
        keeper.unlink()
    file.unlink()


def by_nodemailer(maker):
    """nodemailer, with its stream transport."""
    if not NODE:
        sys.exit("POSTKEY_TEST_NODE is not set: run through `cargo xtask test`")
    script = pathlib.Path(NODE) / "clients/nodemailer_messages.mjs"
    words = ["node", "--preserve-symlinks", "--preserve-symlinks-main", str(script)]
    made = subprocess.run([*words, str(maker.folder), maker.sender, maker.recipient],
                          check=True, capture_output=True, text=True, timeout=60).stdout
    maker.made += made.split()


def as_outlook(maker):
    """Parts nested, named and coded as Outlook and Exchange nest, name and code them."""

    def lines(data):
        return textwrap.fill(base64.b64encode(data).decode(), 76)

    subject = "=?Windows-1252?Q?AW:_Angebot_f=FCr_die_Pr=FCfung?="
    text = ("Content-Type: text/plain;\n\tcharset=\"Windows-1252\"\n"
            "Content-Transfer-Encoding: quoted-printable\n\n"
            "Sehr geehrte Damen und Herren,\n\n=A0\n\nanbei das Angebot =96 5.000=A0=80.=20\n\n"
            "Mit freundlichen Gr=FC=DFen\n\n")
    html = ("Content-Type: text/html;\n\tcharset=\"Windows-1252\"\n"
            "Content-Transfer-Encoding: quoted-printable\n\n"
            "<html xmlns:v=3D\"urn:schemas-microsoft-com:vml\" xmlns:o=3D\"urn:schemas-micr=\n"
            "osoft-com:office:office\"><head><meta http-equiv=3DContent-Type content=3D\"t=\n"
            "ext/html; charset=3DWindows-1252\"></head><body lang=3DDE><p class=3DMsoNorma=\n"
            "l>Gr=FC=DFe <img src=3D\"cid:image001.png@01DC4C9A.8F0F2B10\"><o:p></o:p></p></=\nbody></html>\n")
    image = lines(CHANCE.randbytes(4000))
    report = lines(CHANCE.randbytes(20_000))
    head = f"From: =?Windows-1252?Q?M=FCller,_Anna?= <{maker.sender}>\n"
    mixed, related, alternative = (f"----=_NextPart_00{n}_{CHANCE.getrandbits(16):04X}_01DC4C9A.8F0F2B10" for n in range(3))
    message = f"""{head}To: <{maker.recipient}>
Subject: {subject}
Date: {DATE}
Message-ID: {maker.message_id("outlook")}
MIME-Version: 1.0
Content-Type: multipart/mixed;
\tboundary="{mixed}"
X-Mailer: Microsoft Outlook 16.0
Thread-Index: AdxMmo8PKxCqZ2l0T0mV0yqQm3Yx5Q==
Content-Language: de
X-MS-Has-Attach: yes
X-MS-TNEF-Correlator:

This is a multipart message in MIME format.

--{mixed}
Content-Type: multipart/related;
\tboundary="{related}"

--{related}
Content-Type: multipart/alternative;
\tboundary="{alternative}"

--{alternative}
{text}
--{alternative}
{html}
--{alternative}--

--{related}
Content-Type: image/png;
\tname="image001.png"
Content-Transfer-Encoding: base64
Content-ID: <image001.png@01DC4C9A.8F0F2B10>

{image}

--{related}--

--{mixed}
Content-Type: application/vnd.openxmlformats-officedocument.spreadsheetml.sheet;
\tname="=?Windows-1252?Q?Pr=FCfbericht.xlsx?="
Content-Transfer-Encoding: base64
Content-Disposition: attachment;
\tfilename="=?Windows-1252?Q?Pr=FCfbericht.xlsx?="

{report}

--{mixed}--
"""
    maker.keep("outlook-related", message.replace("\n", "\r\n").encode("ascii"))

    boundary = "_000_DB9PR01MB1234ABCDEF0123456789DB9PR01MB1234eurprd01prod_"
    invitation = base64.b64encode(
        "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nPRODID:Microsoft Exchange Server 2010\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\n"
        f"ORGANIZER;CN=Anna:mailto:{maker.sender}\r\nATTENDEE;ROLE=REQ-PARTICIPANT;RSVP=TRUE:mailto:{maker.recipient}\r\n"
        "UID:040000008200E00074C5B7101A82E008\r\nSUMMARY;LANGUAGE=de-DE:Prüfung\r\nDTSTART:20261110T090000Z\r\n"
        "DTEND:20261110T100000Z\r\nDTSTAMP:20261103T083000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n".encode()).decode()
    message = f"""From: Anna <{maker.sender}>
To: <{maker.recipient}>
Subject: =?iso-8859-1?Q?Pr=FCfung?=
Thread-Topic: =?iso-8859-1?Q?Pr=FCfung?=
Date: {DATE}
Message-ID: {maker.message_id("outlook-invitation")}
Accept-Language: de-DE, en-US
Content-Language: de-DE
Content-Type: multipart/alternative;
\tboundary="{boundary}"
MIME-Version: 1.0

--{boundary}
Content-Type: text/plain; charset="iso-8859-1"
Content-Transfer-Encoding: quoted-printable

Pr=FCfung

--{boundary}
Content-Type: text/html; charset="iso-8859-1"
Content-Transfer-Encoding: quoted-printable

<html><body><p>Pr=FCfung</p></body></html>

--{boundary}
Content-Type: text/calendar; charset="utf-8"; method=REQUEST
Content-Transfer-Encoding: base64

{textwrap.fill(invitation, 76)}

--{boundary}--
"""
    maker.keep("outlook-invitation", message.replace("\n", "\r\n").encode("ascii"))


if __name__ == "__main__":
    one = Maker(*sys.argv[1:4])
    for make in (by_python, by_swaks, by_mutt, by_nodemailer, as_outlook):
        make(one)
    for made in one.made:
        print(made)
