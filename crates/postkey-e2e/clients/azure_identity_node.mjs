// azure-identity for Node: secret, certificate, authorization code, device code.

import { AuthorizationCodeCredential, ClientCertificateCredential, ClientSecretCredential, DeviceCodeCredential } from "@azure/identity";

import { Browser } from "./browser.mjs";
import { makeCertificate, uploadCertificate } from "./directory.mjs";
import { authority, check, commandLineTools, env, graph, graphDefault, until } from "./environment.mjs";

// The switches documented for private authorities.
const privately = { authorityHost: env.EMULATOR_AUTHORITY, disableInstanceDiscovery: true };

async function bySecret() {
  const { token } = await new ClientSecretCredential(env.TENANT_ID, env.CLIENT_ID, env.CLIENT_SECRET, privately)
    .getToken(graphDefault);
  const user = await graph(token, `/users/${env.SENDER}`);
  check("a secret gets a token that Graph takes", user.status === 200, user);
  const refused = await new ClientSecretCredential(env.TENANT_ID, env.CLIENT_ID, "not~the~secret", privately)
    .getToken(graphDefault).catch((error) => error);
  check("a wrong secret is refused with 7000215", String(refused).includes("7000215"), refused);
}

async function byCertificate() {
  const { key, pem } = await added();
  const what = "a certificate gets a token";
  await until(what, async () => {
    const credential = new ClientCertificateCredential(env.TENANT_ID, env.CLIENT_ID, { certificate: key + pem }, privately);
    return (await credential.getToken(graphDefault).catch(() => undefined))?.token;
  });
  check(what, true);
}

async function added() {
  const certificate = makeCertificate();
  await uploadCertificate(certificate);
  return certificate;
}

async function byCode() {
  const redirect = "http://localhost/myapps/";
  const asked = new URLSearchParams({
    client_id: env.CLIENT_ID, response_type: "code", redirect_uri: redirect, response_mode: "query",
    scope: "openid profile offline_access https://graph.microsoft.com/User.Read",
  });
  const answer = await new Browser().visit(`${authority}/oauth2/v2.0/authorize?${asked}`, { redirect });
  check("a hand-made authorize URL leads back with a code", answer.code, answer);
  const credential = new AuthorizationCodeCredential(
    env.TENANT_ID, env.CLIENT_ID, env.CLIENT_SECRET, answer.code, redirect, privately);
  const { token } = await credential.getToken("https://graph.microsoft.com/User.Read");
  check("the code gets a token", (await graph(token, "/me")).status === 200);
}

async function byDeviceCode() {
  const credential = new DeviceCodeCredential({
    ...privately, tenantId: env.TENANT_ID, clientId: commandLineTools,
    userPromptCallback: ({ verificationUri, userCode }) => {
      new Browser(env.ADMIN_USER, env.ADMIN_PASSWORD).visit(verificationUri, { code: userCode })
        .catch((error) => check("the device page can be visited", false, error));
    },
  });
  const { token } = await credential.getToken("https://graph.microsoft.com/User.Read");
  check("a device code gets a token once it is typed", token);
}

await bySecret();
await byCertificate();
await byCode();
await byDeviceCode();
