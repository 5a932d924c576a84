// Asks the console, with its token where it wants one.

import { at, needsToken } from "./elements.js";
import { inBytes } from "./stream.js";

const TOKEN = "streamproc-console-token";

const ANSWER_MS = 20000; // the console answers, or tells that it cannot, within 5 s; a network that is gone tells nothing

let asking = null;

// Whether somebody is asked for the token now.
export function isAsking() {
  return asking !== null;
}

export function headers() {
  const token = needsToken ? sessionStorage.getItem(TOKEN) : null;
  return token ? { Authorization: `Bearer ${inBytes(token)}` } : {};
}

export async function asked(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, text]) => text);
  const answer = await fetch(`api/${path}?${new URLSearchParams(given)}`, {
    headers: headers(),
    cache: "no-store",
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  if (answer.status === 401) {
    await askToken();
    return asked(path, parameters);
  }
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? answer.statusText);
  return body;
}

export function askToken() {
  asking ??= new Promise((resolve) => {
    at("ask-wrong").hidden = sessionStorage.getItem(TOKEN) === null;
    at("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, at("token").value.trim());
      at("token").value = "";
      asking = null;
      at("ask").close();
      resolve();
    }, { once: true });
    at("ask").showModal();
  });
  return asking;
}

// A browser lets people close it all the same, with Escape pressed twice; without a token there is nothing behind it.
at("ask").addEventListener("cancel", (event) => event.preventDefault());
at("ask").addEventListener("close", () => {
  if (asking) at("ask").showModal();
});
