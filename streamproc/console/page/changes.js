// What happened: the last changes of severity, newest first.

import { asked } from "./asking.js";
import { at, element, moment, severityOf } from "./elements.js";
import { nameOf } from "./sensors.js";
import { fault } from "./standing.js";

const KEPT = 100; // two screens
const shown = new Set(); // ids of what is in the list
let isMissing = false; // what happened before the page was opened, or while it could not follow

export async function loadChanges() {
  try {
    const page = await asked("events", { limit: 50 });
    at("changes").setAttribute("aria-live", "off");
    for (const change of page.events.reverse()) showChange(change);
    setTimeout(() => at("changes").setAttribute("aria-live", "polite"), 500); // what is old is not read out
    isMissing = false;
    fault("changes");
  } catch (error) {
    isMissing = true;
    fault("changes", error.message);
  }
}

// What comes is told live; what could not be read is tried again.
export async function loadMissing() {
  if (isMissing) await loadChanges();
}

export function showChange(change) {
  if (shown.has(change.event_id)) return;
  shown.add(change.event_id);
  const item = element("li", "", { "data-event": change.event_id, "data-at": change.at });
  const head = element("p");
  const name = change.name ?? nameOf(change.sensor);
  head.append(moment(change.at), " ", severityOf(change.severity), " ", element("strong", name));
  item.append(head, element("p", change.explanation));
  if (change.severity !== "NORMAL") item.append(element("p", change.recommended_action, { class: "advice" }));
  const list = at("changes");
  const older = [...list.children].find((each) => Date.parse(each.dataset.at) <= Date.parse(change.at));
  list.insertBefore(item, older ?? null);
  while (list.children.length > KEPT) {
    shown.delete(list.lastElementChild.dataset.event);
    list.lastElementChild.remove();
  }
  at("changes-none").hidden = true;
}
