// MSAL for Node: secret, certificate, authorization code with PKCE, refresh, device code.

import { ConfidentialClientApplication, CryptoProvider, PublicClientApplication } from "@azure/msal-node";

import { Browser } from "./browser.mjs";
import { makeCertificate, uploadCertificate } from "./directory.mjs";
import { authority, authorityHost, check, commandLineTools, env, graph, graphDefault, until } from "./environment.mjs";

// The switch documented for private authorities is `knownAuthorities`.
const confidential = (credential) => new ConfidentialClientApplication({
  auth: { clientId: env.CLIENT_ID, authority, knownAuthorities: [authorityHost], ...credential },
});

async function bySecret() {
  const app = confidential({ clientSecret: env.CLIENT_SECRET });
  const first = await app.acquireTokenByClientCredential({ scopes: [graphDefault] });
  check("a secret gets a token", first.accessToken && first.fromCache === false, first);
  const second = await app.acquireTokenByClientCredential({ scopes: [graphDefault] });
  check("the second one comes from MSAL's cache", second.fromCache === true, second);
  const sent = await graph(first.accessToken, `/users/${env.SENDER}/sendMail`, {
    message: {
      subject: "sent with MSAL for Node",
      body: { contentType: "Text", content: "hello" },
      toRecipients: [{ emailAddress: { address: env.USER_NAME } }],
    },
  });
  check("it sends a mail: 202 without a body", sent.status === 202 && sent.text === "", sent);
  const refused = await confidential({ clientSecret: "not~the~secret" })
    .acquireTokenByClientCredential({ scopes: [graphDefault] }).catch((error) => error);
  check("a wrong secret is refused with 7000215", String(refused).includes("7000215"), refused);
}

async function byCertificate() {
  const certificate = makeCertificate();
  const { key, pem, thumbprint, thumbprintSha256 } = certificate;
  await uploadCertificate(certificate);
  const credentials = {
    "RS256 and x5t": { thumbprint, privateKey: key },
    "PS256 and x5t#S256": { thumbprintSha256, privateKey: key },
    "PS256 with x5c": { thumbprintSha256, privateKey: key, x5c: pem },
  };
  for (const [name, clientCertificate] of Object.entries(credentials)) {
    const what = `a certificate gets a token: ${name}`;
    await until(what, async () => {
      const asked = confidential({ clientCertificate }).acquireTokenByClientCredential({ scopes: [graphDefault] });
      return (await asked.catch(() => undefined))?.accessToken;
    });
    check(what, true);
  }
}

async function byCode() {
  const app = confidential({ clientSecret: env.CLIENT_SECRET });
  const scopes = ["User.Read", "Mail.Send"], redirectUri = "http://localhost:53683";
  const { verifier, challenge } = await new CryptoProvider().generatePkceCodes();
  const url = await app.getAuthCodeUrl({
    scopes, redirectUri, codeChallenge: challenge, codeChallengeMethod: "S256", nonce: "a-nonce", state: "a-state",
  });
  const answer = await new Browser().visit(url, { redirect: redirectUri });
  check("the sign-in and consent pages lead back with a code", answer.code && answer.state === "a-state", answer);
  const tokens = await app.acquireTokenByCode(
    { code: answer.code, scopes, redirectUri, codeVerifier: verifier }, { nonce: "a-nonce" });
  check("the code and its PKCE verifier get tokens", tokens.account.username === env.USER_NAME, tokens);
  const me = await graph(tokens.accessToken, "/me");
  check("the token reads /me", me.status === 200, me);
  const fresh = await app.acquireTokenSilent({ account: tokens.account, scopes, forceRefresh: true });
  check("the refresh token gets another token", fresh.accessToken && fresh.accessToken !== tokens.accessToken, fresh);
  const again = await app.acquireTokenSilent({ account: tokens.account, scopes, forceRefresh: true });
  check("and the rotated refresh token one more", again.accessToken && again.fromCache === false, again);
}

async function byDeviceCode() {
  const app = new PublicClientApplication({
    auth: { clientId: commandLineTools, authority, knownAuthorities: [authorityHost] },
  });
  const browser = new Browser(env.ADMIN_USER, env.ADMIN_PASSWORD);
  let page;
  const tokens = await app.acquireTokenByDeviceCode({
    scopes: ["User.Read"],
    deviceCodeCallback: async (answer) => {
      page = await browser.visit(answer.verificationUri, { code: answer.userCode });
    },
  });
  check("a device code gets tokens once it is typed", tokens?.account.username === env.ADMIN_USER, [page, tokens]);
}

await bySecret();
await byCertificate();
await byCode();
await byDeviceCode();
