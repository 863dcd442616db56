// Messages as nodemailer writes them, for make_messages.py. Arguments: folder, sender, recipient. Prints their names.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import nodemailer from "nodemailer";

const [folder, from, to] = process.argv.slice(2);
const transport = nodemailer.createTransport({ streamTransport: true, buffer: true, newline: "windows" });
const bytes = Buffer.from(Array.from({ length: 30_000 }, (_, index) => (index * 31 + (index >> 8)) & 0xff));

const messages = {
  "nodemailer-plain": { subject: "nodemailer: schöne Grüße", text: "Grüße\r\n.\r\nEnde" },
  "nodemailer-parts": {
    subject: "parts", text: "text ".repeat(400), html: "<p>text</p><img src='cid:picture'>", textEncoding: "base64",
    attachments: [
      { filename: "picture.png", content: bytes, cid: "picture" },
      { filename: "très long nom de fichier avec des accents éàü et plus de soixante-dix-huit caractères.bin", content: bytes },
      { filename: "notes.txt", content: "a note", contentTransferEncoding: "quoted-printable" },
    ],
  },
  "nodemailer-invitation": {
    subject: "invitation", text: "please come",
    icalEvent: {
      method: "REQUEST",
      content: "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@contoso.example\r\n"
        + "DTSTAMP:20261103T083000Z\r\nDTSTART:20261110T090000Z\r\nSUMMARY:Prüfung\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
    },
  },
};

for (const [name, message] of Object.entries(messages)) {
  const made = await transport.sendMail({ from: { name: "Büro", address: from }, to, ...message });
  writeFileSync(join(folder, `${name}.eml`), made.message);
  console.log(name);
}
