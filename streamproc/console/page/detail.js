// One sensor: a chart of its last windows, what it is judged by, and what to do.

import { asked } from "./asking.js";
import { at, clock, element, moment, severityOf, value, words } from "./elements.js";
import { fault } from "./standing.js";
import { chart, filled } from "./stream.js";

const WINDOWS = 60; // what a chart of this width shows apart
const SVG = "http://www.w3.org/2000/svg";

let selected = null; // the sensor's key
let windows = [];
let chartOf = null; // what is known of the sensor that the chart is of, for its unit and limits

export function isSelected(sensor) {
  return selected !== null && sensor === selected;
}

// The keys that are followed whatever the list shows.
export function selection() {
  return selected === null ? [] : [selected];
}

export async function select(sensor) {
  selected = sensor;
  windows = [];
  chartOf = null;
  await loadDetail();
  at("detail").focus({ preventScroll: false });
}

// Puts it away; gives the key of which it was.
export function unselect() {
  const was = selected;
  selected = null;
  at("detail").hidden = true;
  fault("detail");
  return was;
}

export async function loadDetail() {
  if (selected === null) return;
  const sensor = selected;
  const path = `sensors/${encodeURIComponent(sensor)}`;
  try {
    const [found, page] = await Promise.all([
      asked(path),
      asked(`${path}/windows`, { size: "1s", limit: WINDOWS }),
    ]);
    if (sensor !== selected) return;
    windows = page.windows.reverse();
    chartOf = found;
    showDetail(found);
    showChart();
    fault("detail");
  } catch (error) {
    if (sensor === selected) fault("detail", error.message);
  }
}

// Adds a window that came live to the chart.
export function takeDetail(window) {
  const newest = windows[windows.length - 1];
  if (!isSelected(window.sensor) || !chartOf || (newest && newest.start >= window.start)) return;
  windows = [...windows, window].slice(-WINDOWS);
  showChart();
}

function showDetail(found) {
  at("detail-title").textContent = found.name ?? found.sensor;
  const event = found.severity === "NORMAL" ? null : found.event;
  const facts = [
    [words.standing, severityOf(found.severity)],
    [words.why, event?.explanation],
    [words.advice, event?.recommended_action],
    [words.since, event && moment(found.since)],
    [words.value, value(found.last?.value, found.unit)],
    [words.seen, moment(found.last?.ts)],
    [words.warning, range(found.warning, found.unit)],
    [words.critical, range(found.critical, found.unit)],
    [words.kind, found.kind],
    [words.device, found.device],
    [words.site, found.site],
    [words.key, found.sensor],
  ];
  const told = facts.filter(([, fact]) => fact).flatMap(([name, fact]) => {
    const entry = element("dd");
    entry.append(fact);
    return [element("dt", name), entry];
  });
  at("facts").replaceChildren(...told);
  at("detail").hidden = false;
}

function range(limits, unit) {
  if (!limits) return null;
  const bound = (amount, none) => (amount === undefined || amount === null ? none : value(amount, unit));
  return filled(words.range, bound(limits.low, "−∞"), bound(limits.high, "∞"));
}

function showChart() {
  const { unit, critical } = chartOf;
  const drawn = chart(windows, 600, 160, [critical?.low, critical?.high]);
  if (!drawn) {
    at("chart").replaceChildren();
    at("chart-told").textContent = words.chart_none;
    return;
  }
  const limits = drawn.limits.map((y) => shape("line", { x1: 0, x2: 600, y1: y, y2: y }));
  at("chart").replaceChildren(
    shape("polygon", { points: drawn.band }), ...limits, shape("polyline", { points: drawn.line }),
  );
  const [first, last] = [windows[0], windows[windows.length - 1]];
  const times = [first, last].map((each) => clock.format(new Date(each.start)));
  const values = [drawn.least, drawn.greatest, last.mean].map((amount) => value(amount, unit));
  at("chart-told").textContent = filled(words.chart_told, windows.length, ...times, ...values);
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, text] of Object.entries(attributes)) made.setAttribute(key, text);
  return made;
}
