// nodemailer: sends by SMTP submission with XOAUTH2, application token and all.

import { randomUUID } from "node:crypto";

import { ConfidentialClientApplication } from "@azure/msal-node";
import nodemailer from "nodemailer";

import { authority, authorityHost, check, env, graph, graphDefault, until } from "./environment.mjs";

const app = new ConfidentialClientApplication({
  auth: { clientId: env.CLIENT_ID, clientSecret: env.CLIENT_SECRET, authority, knownAuthorities: [authorityHost] },
});
const { accessToken } = await app.acquireTokenByClientCredential({ scopes: ["https://outlook.office365.com/.default"] });
const [host, port] = env.EMULATOR_SMTP.replace(/^\w+:\/\//, "").split(":");

const transport = (token) => nodemailer.createTransport({
  host, port: Number(port), secure: false, requireTLS: true,
  auth: { type: "OAuth2", user: env.SENDER, accessToken: token },
});

const subject = `nodemailer ${randomUUID()}`;
const message = {
  from: env.SENDER, to: env.USER_NAME, subject, text: "Grüße", html: "<p>Grüße</p>",
  attachments: [{ filename: "größe.bin", content: Buffer.alloc(100_000, "postkey") }],
};
const sent = await transport(accessToken).sendMail(message).catch((error) => error);
check("nodemailer sends with XOAUTH2: 250", String(sent.response).startsWith("250"), sent);

const { accessToken: graphToken } = await app.acquireTokenByClientCredential({ scopes: [graphDefault] });
await until("it arrives in the recipient's mailbox", async () => {
  const listed = await graph(graphToken, `/users/${env.USER_NAME}/messages?$select=subject&$top=50`);
  return listed.text.includes(subject);
});
check("it arrives in the recipient's mailbox", true);

const refused = await transport("not a token").sendMail(message).catch((error) => error);
check("a bad token is refused: 535", refused.responseCode === 535, refused);
