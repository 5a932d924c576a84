// Follows what happens as it does, and comes back where it broke off.

import { askToken, headers } from "./asking.js";
import { stand } from "./standing.js";
import { messages } from "./stream.js";

const SILENCE_MS = 40000; // two heartbeats of the console, and time on the way
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30000;
const SETTLE_MS = 1000; // so often at most is another list of sensors followed: in a storm of alarms it changes all the time

let place = ""; // where the stream goes on
let stream = null; // ends the one that is followed now
let followed = ""; // the sensors whose windows come, as a query
let settling = null;

// Follows these sensors; the stream that ends for it is gone on with by the next.
export function followThese(query) {
  if (stream === null) followed = query;
  clearTimeout(settling);
  if (query === followed) return;
  settling = setTimeout(() => {
    followed = query;
    stream.abort();
  }, SETTLE_MS);
}

function isHidden() {
  return document.visibilityState === "hidden";
}

// A browser opens six connections to a console, for all its tabs together: those that nobody looks at leave theirs to others.
async function seen() {
  while (isHidden()) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

document.addEventListener("visibilitychange", () => {
  if (isHidden()) stream?.abort();
});

// Hands each message to `take`, for ever; `begin` is called where it begins from now on, and not where it was.
export async function follow(take, begin) {
  let pause = FIRST_PAUSE_MS;
  for (;;) {
    await seen();
    stream = new AbortController();
    const asksFor = followed;
    try {
      await read(stream, begin, (message) => {
        pause = FIRST_PAUSE_MS;
        if (message.id !== null) place = message.id;
        take(message);
      });
    } catch {
      // Why does not matter: the next attempt tells more.
    }
    if (isHidden() || asksFor !== followed) continue;
    stand("away");
    await new Promise((resolve) => setTimeout(resolve, pause * (1 + Math.random() / 2)));
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

async function read(controller, begin, take) {
  let watchdog = setTimeout(() => controller.abort(), SILENCE_MS);
  try {
    const answer = await fetch(`api/live?size=1s&${followed}`, {
      headers: { ...headers(), ...(place ? { "Last-Event-ID": place } : {}) },
      cache: "no-store",
      signal: controller.signal,
    });
    if (answer.status === 401) await askToken();
    if (!answer.ok) return;
    if (!place) await begin();
    const parse = messages();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value: text, done } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(() => controller.abort(), SILENCE_MS);
      parse(text).forEach(take);
    }
  } finally {
    clearTimeout(watchdog);
  }
}
