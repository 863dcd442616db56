// nodemailer: all messages over one kept connection. Arguments: starttls or tls, PLAIN or LOGIN, files. The server's
// certificate is checked against the CA alone.

import { readFileSync } from "node:fs";

import nodemailer from "nodemailer";

const { DEMO_CA, DEMO_SMTP, DEMO_SMTPS, DEMO_SUBMITTER, DEMO_PASSWORD, SENDER, USER_NAME } = process.env;
const [tls, method, ...files] = process.argv.slice(2);
const address = (tls === "tls" ? DEMO_SMTPS : DEMO_SMTP).replace(/^\w+:\/\//, "");
const transport = nodemailer.createTransport({
  host: address.slice(0, address.lastIndexOf(":")), port: Number(address.slice(address.lastIndexOf(":") + 1)),
  secure: tls === "tls", requireTLS: true, tls: { ca: readFileSync(DEMO_CA) }, name: "localhost",
  authMethod: method, auth: { user: DEMO_SUBMITTER, pass: DEMO_PASSWORD },
  pool: true, maxConnections: 1, maxMessages: Infinity,
});
for (const file of files) {
  const sent = await transport.sendMail({ envelope: { from: SENDER, to: [USER_NAME] }, raw: readFileSync(file) });
  if (!sent.response.startsWith("250")) throw new Error(sent.response);
}
transport.close();
