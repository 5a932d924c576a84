// The list of sensors, the worst first: read from the database, and kept up by what comes live.

import { asked } from "./asking.js";
import { isSelected } from "./detail.js";
import { at, element, moment, severityOf, value, words } from "./elements.js";
import { fault } from "./standing.js";
import { byUrgency, filled } from "./stream.js";

const STEP = 100; // rows that "more" adds: as the console gives them where nobody asks for more
const PAGE = 500; // the most that it gives at once
const MOST = 2000; // rows that a browser still moves about at ease; who looks for others finds them by the search

const rows = new Map(); // sensors of the list by key
const ahead = new Map(); // changes that came live and the database may not have yet, by sensor
const fresh = new Set(); // keys whose rows are to light up
let wanted = STEP; // rows
let next = null; // where the list goes on
let running = null; // the reading that is under way, and the one that comes behind it
let waiting = null;
let reloading = null;
let showing = null;
let whenShown = () => {};

// Has this called whenever the list has been shown anew.
export function onShown(call) {
  whenShown = call;
}

export function nameOf(sensor) {
  return rows.get(sensor)?.name ?? sensor;
}

// The keys of the list in its order.
export function listed() {
  return [...rows.values()].sort(byUrgency).map((each) => each.sensor);
}

// The button of a sensor's row.
export function buttonOf(sensor) {
  return rowOf(sensor)?.querySelector("button");
}

function rowOf(sensor) {
  return at("rows").querySelector(`tr[data-sensor="${CSS.escape(sensor)}"]`);
}

function filter() {
  return { search: at("search").value.trim(), severity: at("severity").value };
}

// Reads the list anew, one reading after the other: an answer that is late must not show what was before.
export function loadSensors() {
  waiting ??= (running ?? Promise.resolve()).then(() => {
    waiting = null;
    running = load().catch((error) => fault("sensors", error.message));
    return running;
  });
  return waiting;
}

// Reads another list than before, from its beginning.
export function loadOthers() {
  wanted = STEP;
  return loadSensors();
}

export function loadMore() {
  wanted = Math.min(rows.size + STEP, MOST);
  return loadSensors();
}

// Once of many changes at the same time.
function reloadSoon() {
  reloading ??= setTimeout(() => {
    reloading = null;
    loadSensors();
  }, 1000);
}

async function load() {
  const asksFor = JSON.stringify(filter());
  const found = new Map();
  let cursor = "";
  do {
    const limit = Math.min(wanted - found.size, PAGE);
    const page = await asked("sensors", { ...filter(), cursor, limit });
    if (asksFor !== JSON.stringify(filter())) return; // somebody has typed on, and the next reading is under way
    for (const sensor of page.sensors) found.set(sensor.sensor, upToDate(sensor));
    cursor = page.next;
  } while (cursor && found.size < wanted);
  rows.clear();
  for (const [sensor, row] of found) rows.set(sensor, row);
  next = cursor;
  fault("sensors");
  show();
}

function upToDate(sensor) {
  const change = ahead.get(sensor.sensor);
  if (!change) return sensor;
  if (Date.parse(sensor.since) >= Date.parse(change.since)) {
    ahead.delete(sensor.sensor);
    return sensor;
  }
  return { ...sensor, ...change };
}

// Shows a change that came live.
export function takeChange(change) {
  const known = rows.get(change.sensor);
  if (known && !(Date.parse(known.since) > Date.parse(change.at))) {
    const { severity, at: since, cause, explanation } = change;
    ahead.set(change.sensor, { severity, since, cause, explanation });
    rows.set(change.sensor, upToDate(known));
    fresh.add(change.sensor);
    showSoon();
  }
  if (!known || at("severity").value) reloadSoon();
}

// Shows the value of a window that came live.
export function takeWindow(window) {
  const known = rows.get(window.sensor);
  const end = new Date(Date.parse(window.start) + window.size_ms).toISOString();
  if (!known || Date.parse(known.last_seen) > Date.parse(end)) return;
  rows.set(window.sensor, { ...known, last_value: window.last, last_seen: end });
  const row = rowOf(window.sensor);
  if (row) fill(row, rows.get(window.sensor));
}

// Once of many changes at the same time: in a storm of alarms there is time left for those who look.
export function showSoon() {
  showing ??= setTimeout(show, 100);
}

function show() {
  clearTimeout(showing);
  showing = null;
  const body = at("rows");
  const known = new Map([...body.children].map((row) => [row.dataset.sensor, row]));
  const focused = document.activeElement?.closest("#rows tr")?.dataset.sensor;
  const shown = listed().map((sensor) => fill(known.get(sensor) ?? newRow(sensor), rows.get(sensor)));
  // What is put in anew loses the focus, and its animation begins again.
  const moved = shown.length !== body.children.length || shown.some((row, index) => row !== body.children[index]);
  if (moved) body.replaceChildren(...shown);
  if (moved && focused !== undefined) buttonOf(focused)?.focus();
  for (const sensor of fresh) rowOf(sensor)?.classList.add("fresh");
  fresh.clear();
  at("shown").textContent = count();
  at("more").hidden = !next || rows.size >= MOST;
  whenShown();
}

function count() {
  if (rows.size === 0) return Object.values(filter()).some(Boolean) ? words.none : words.no_sensors;
  if (!next) return filled(words.shown, rows.size);
  return filled(rows.size < MOST ? words.shown_more : words.shown_most, rows.size);
}

function newRow(sensor) {
  const row = element("tr", "", { "data-sensor": sensor });
  const name = element("td");
  name.append(element("button", "", { type: "button" }), element("span", "", { class: "under" }));
  row.addEventListener("animationend", () => row.classList.remove("fresh"));
  row.append(element("td"), name, element("td", "", { class: "number" }), element("td"));
  row.append(element("td", "", { class: "wide" }), element("td", "", { class: "wide" }));
  return row;
}

function fill(row, sensor) {
  const [severity, name, last, seen, since, why] = row.children;
  severity.replaceChildren(severityOf(sensor.severity));
  name.children[0].textContent = sensor.name ?? sensor.sensor;
  name.children[1].textContent = [sensor.device, sensor.site].filter(Boolean).join(" · ");
  last.textContent = value(sensor.last_value, sensor.unit);
  seen.replaceChildren(moment(sensor.last_seen));
  const troubled = sensor.severity !== "NORMAL";
  since.replaceChildren(...(troubled ? [moment(sensor.since)] : []));
  why.textContent = troubled ? sensor.explanation : "";
  if (isSelected(sensor.sensor)) row.setAttribute("aria-current", "true");
  else row.removeAttribute("aria-current");
  return row;
}
