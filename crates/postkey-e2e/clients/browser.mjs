// Plays a person with a browser before the sign-in, consent and device pages: plain forms, no JavaScript.

import { env } from "./environment.mjs";

const steps = 12;
const refusing = /cancel|decline|deny|refuse|back|different|another|^no$/i;
const entities = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

function plain(text) {
  return text.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (all, hex, decimal, name) =>
    hex ? String.fromCodePoint(parseInt(hex, 16))
      : decimal ? String.fromCodePoint(Number(decimal)) : (entities[name] ?? all));
}

function attributes(tag) {
  const found = {};
  for (const [, name, double, single, bare] of tag.matchAll(/([\w-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+)))?/g)) {
    found[name.toLowerCase()] ??= plain(double ?? single ?? bare ?? "");
  }
  return found;
}

function forms(html) {
  return [...html.matchAll(/<form\b([^>]*)>(.*?)<\/form>/gis)].map(([, head, body]) => {
    const fields = [], buttons = [];
    for (const [, name, tag, label] of body.matchAll(/<(input|button)\b([^>]*)>([^<]*)/gis)) {
      const found = attributes(tag);
      const kind = (found.type ?? (name.toLowerCase() === "button" ? "submit" : "text")).toLowerCase();
      const field = { name: found.name, value: found.value ?? "", kind, label: plain(label).trim() || found.value };
      if (kind === "submit") buttons.push(field);
      else if (kind !== "checkbox" || "checked" in found) fields.push(field);
    }
    const { action = "", method = "get" } = attributes(head);
    return { action, method: method.toLowerCase(), fields, buttons };
  });
}

const agree = (form) => form.buttons.find((button) => !refusing.test(button.label ?? ""));

export class Browser {
  #cookies = new Map();

  constructor(user = env.USER_NAME, password = env.USER_PASSWORD) {
    this.user = user;
    this.password = password;
  }

  async #get(url, body) {
    const answer = await fetch(url, {
      method: body ? "POST" : "GET",
      body,
      redirect: "manual",
      headers: { cookie: [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ") },
    });
    for (const cookie of cookiesOf(answer.headers)) {
      const [pair] = cookie.split(";");
      this.#cookies.set(pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1));
    }
    return answer;
  }

  // Goes through the pages from `url` on; returns the parameters that reach `redirect`, or the last page's text.
  async visit(url, { redirect, code, deliver = false } = {}) {
    let at = url, answer = await this.#get(url);
    for (let step = 0; step < steps; step += 1) {
      const location = answer.headers.get("location");
      if (location) {
        at = new URL(location, at).href;
        if (redirect && at.startsWith(redirect)) {
          if (deliver) await fetch(at);
          return Object.fromEntries(new URL(at).searchParams);
        }
        answer = await this.#get(at);
        continue;
      }
      const html = await answer.text();
      const form = forms(html).find((form) => form.buttons.length === 0 || agree(form));
      if (!form) return `HTTP ${answer.status}: ${plain(html.replace(/<[^>]*>/g, " ")).replace(/\s+/g, " ")}`;
      const filled = new URLSearchParams();
      for (const field of form.fields.filter((field) => field.name)) {
        let value = field.value;
        if (field.kind === "password") value = this.password;
        else if (["text", "email", "tel"].includes(field.kind) && !value) {
          value = code && /code|otc/i.test(field.name) ? code : this.user;
        }
        filled.append(field.name, value);
      }
      const button = agree(form);
      if (button?.name) filled.append(button.name, button.value);
      at = new URL(form.action, at).href;
      if (redirect && at.startsWith(redirect)) {
        if (deliver) await fetch(at, { method: "POST", body: filled });
        return Object.fromEntries(filled);
      }
      if (form.method !== "post") at = `${at.split("?")[0]}?${filled}`;
      answer = await this.#get(at, form.method === "post" ? filled : undefined);
    }
    return `still no end after ${steps} pages, at ${at}`;
  }
}

/** Every Set-Cookie line. Debian 12's Node 18 has no getSetCookie and joins them by commas, which also stand in dates. */
function cookiesOf(headers) {
  if (headers.getSetCookie) return headers.getSetCookie();
  return (headers.get("set-cookie") ?? "").split(/,\s*(?=[^;,=\s]+=)/).filter(Boolean);
}
