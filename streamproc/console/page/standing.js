// The line at the top: whether what the page shows is of now.

import { at, words } from "./elements.js";
import { filled } from "./stream.js";

let stream = "connecting"; // how the stream stands: connecting, live, paused or away
const faults = new Map(); // why a part of the page could not be read anew, by part

// Tells how the stream stands.
export function stand(state) {
  stream = state;
  tell();
}

// Tells that a part of the page is not up to date, and why; without a reason, that it is again.
export function fault(part, reason = "") {
  if (reason) faults.set(part, reason);
  else faults.delete(part);
  tell();
}

function tell() {
  const [reason] = faults.values();
  const isStale = reason !== undefined && stream !== "away"; // that the console does not answer says it all
  const state = isStale ? "stale" : stream;
  const text = isStale ? filled(words.stale, reason) : words[stream];
  const told = at("state");
  if (told.dataset.state === state && told.textContent === text) return; // it would be read out again
  told.dataset.state = state;
  told.textContent = text;
}
