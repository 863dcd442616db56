// What every Node script shares: the emulator's environment, and how a check is told. Node reads the emulator's CA
// from NODE_EXTRA_CA_CERTS, which must be set before it starts.

const needed = [
  "EMULATOR_AUTHORITY", "EMULATOR_GRAPH", "EMULATOR_SMTP", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET",
  "ADMIN_CLIENT_ID", "ADMIN_CLIENT_SECRET", "ADMIN_USER", "ADMIN_PASSWORD", "SENDER", "USER_NAME", "USER_PASSWORD",
  "NODE_EXTRA_CA_CERTS",
];
const missing = needed.filter((name) => !process.env[name]);
if (missing.length > 0) {
  console.error(`not set: ${missing.join(", ")}; source the file of \`postkey emulator --env FILE\` and export it`);
  process.exit(1);
}

export const env = process.env;
export const authority = `${env.EMULATOR_AUTHORITY}/${env.TENANT_ID}`;
export const authorityHost = new URL(env.EMULATOR_AUTHORITY).host;
export const graphDefault = "https://graph.microsoft.com/.default";
// Microsoft's public client for its Graph command-line tools.
export const commandLineTools = "14d82eec-204b-4c2f-b7e8-296a70dab67e";

export function check(what, holds, seen) {
  if (holds) {
    console.log(`ok    ${what}`);
    return;
  }
  console.log(`FAIL  ${what}:`, seen);
  process.exit(1);
}

// Repeats an attempt until it returns something true: a tenant takes a moment to know what was just changed.
export async function until(what, attempt) {
  const end = Date.now() + 60_000;
  for (;;) {
    const outcome = await attempt();
    if (outcome) return outcome;
    check(what, Date.now() < end, outcome);
    await new Promise((wake) => setTimeout(wake, 300));
  }
}

export async function graph(token, path, body) {
  const answer = await fetch(env.EMULATOR_GRAPH + path, {
    method: body ? "POST" : "GET",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  return { status: answer.status, text: await answer.text() };
}
