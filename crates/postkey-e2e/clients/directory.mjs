// Putting a certificate on the application. Node makes keys but no certificates: openssl makes both.

import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { ConfidentialClientApplication } from "@azure/msal-node";

import { authority, authorityHost, check, env, graphDefault } from "./environment.mjs";

export function makeCertificate() {
  const folder = mkdtempSync(join(tmpdir(), "postkey-certificate-"));
  try {
    const [key, certificate] = [join(folder, "key.pem"), join(folder, "certificate.pem")];
    execFileSync("openssl", [
      "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=real clients", "-days", "90",
      "-keyout", key, "-out", certificate,
    ], { stdio: "pipe" });
    const pem = readFileSync(certificate, "utf8");
    const parsed = new X509Certificate(pem);
    const hex = (fingerprint) => fingerprint.replaceAll(":", "");
    return {
      key: readFileSync(key, "utf8"),
      pem,
      der: parsed.raw.toString("base64"),
      thumbprint: hex(parsed.fingerprint),
      thumbprintSha256: hex(parsed.fingerprint256),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export async function uploadCertificate(certificate) {
  const app = new ConfidentialClientApplication({
    auth: {
      clientId: env.ADMIN_CLIENT_ID, clientSecret: env.ADMIN_CLIENT_SECRET, authority,
      knownAuthorities: [authorityHost],
    },
  });
  const { accessToken } = await app.acquireTokenByClientCredential({ scopes: [graphDefault] });
  const headers = { authorization: `Bearer ${accessToken}`, "content-type": "application/json" };
  const applications = `${env.EMULATOR_GRAPH}/applications`;
  const found = await (await fetch(`${applications}(appId='${env.CLIENT_ID}')?$select=id,keyCredentials`, { headers })).json();
  const added = { type: "AsymmetricX509Cert", usage: "Verify", displayName: "real clients", key: certificate.der };
  const answer = await fetch(`${applications}/${found.id}`, {
    method: "PATCH", headers, body: JSON.stringify({ keyCredentials: [...found.keyCredentials, added] }),
  });
  check("the certificate is added", answer.status === 204, await answer.text());
}
