// The page: the list of sensors, one of them in detail, and what happens. All text is set as text, never as markup.

import { byUrgency, chart, filled, messages } from "./stream.js";

const { language, needs_token: needsToken, words } = JSON.parse(document.getElementById("words").textContent);
const at = (id) => document.getElementById(id);

const KEPT_CHANGES = 100; // in the list of what happened: two screens
const CHART_WINDOWS = 60; // what a chart of this width shows apart
const FOLLOWED = 100; // as many as the console lets one follow
const REFRESH_MS = 15000; // of what does not come live: values of sensors that speak seldom
const SILENCE_MS = 40000; // two heartbeats of the console, and time on the way
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30000;
const TOKEN = "streamproc-console-token";
const SVG = "http://www.w3.org/2000/svg";

const number = new Intl.NumberFormat(language, { maximumSignificantDigits: 6 });
const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
const dated = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "medium" });

const rows = new Map(); // sensors of the list by key
const ahead = new Map(); // changes that came live and the database may not have yet, by sensor
const shownChanges = new Set(); // ids of what is in the list of what happened
let next = null; // where the list of sensors goes on
let selected = null; // the sensor in detail
let chartWindows = [];
let place = ""; // where the stream goes on
let stream = null; // ends the stream that is followed now
let reloading = null;

// Elements

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function severityOf(name) {
  return element("span", words[name] ?? name, { class: "severity", "data-severity": name });
}

function moment(text) {
  if (!text) return element("span", words.never);
  const time = new Date(text);
  const today = time.toDateString() === new Date().toDateString();
  return element("time", (today ? clock : dated).format(time), { datetime: text });
}

function value(amount, unit) {
  if (amount === null || amount === undefined) return "–";
  return unit ? `${number.format(amount)} ${unit}` : number.format(amount);
}

function tell(state, text = words[state]) {
  const told = at("state");
  if (told.dataset.state === state && told.textContent === text) return;
  told.dataset.state = state;
  told.textContent = text;
}

// Asking the console

function headers() {
  const token = needsToken ? sessionStorage.getItem(TOKEN) : null;
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function asked(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, text]) => text);
  const answer = await fetch(`api/${path}?${new URLSearchParams(given)}`, { headers: headers(), cache: "no-store" });
  if (answer.status === 401) await askToken();
  if (answer.status === 401) return asked(path, parameters);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? answer.statusText);
  return body;
}

let asking = null;

function askToken() {
  asking ??= new Promise((resolve) => {
    at("ask-wrong").hidden = sessionStorage.getItem(TOKEN) === null;
    const dialog = at("ask");
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    at("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, at("token").value.trim());
      at("token").value = "";
      dialog.close();
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

// The list of sensors

function filter() {
  return { search: at("search").value, severity: at("severity").value };
}

async function loadSensors({ more = false } = {}) {
  const wanted = JSON.stringify(filter());
  const limit = more ? 100 : Math.min(Math.max(rows.size, 100), 500);
  try {
    const page = await asked("sensors", { ...filter(), cursor: more ? next : "", limit });
    if (wanted !== JSON.stringify(filter())) return; // somebody has typed on
    if (!more) rows.clear();
    for (const sensor of page.sensors) rows.set(sensor.sensor, upToDate(sensor));
    next = page.next;
    showSensors();
  } catch (error) {
    tell("away", filled(words.stale, error.message));
  }
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

function reloadSoon() {
  reloading ??= setTimeout(() => {
    reloading = null;
    loadSensors();
  }, 1000); // of many changes at once, one list comes
}

function showSensors() {
  const body = at("rows");
  const known = new Map([...body.children].map((row) => [row.dataset.sensor, row]));
  const sorted = [...rows.values()].sort(byUrgency);
  const focused = document.activeElement?.closest("#rows tr")?.dataset.sensor;
  const shown = sorted.map((sensor) => fill(known.get(sensor.sensor) ?? newRow(sensor), sensor));
  // What is put in anew loses the focus, and its animation begins again.
  const moved = shown.length !== body.children.length || shown.some((row, index) => row !== body.children[index]);
  if (moved) body.replaceChildren(...shown);
  if (moved && focused) body.querySelector(`tr[data-sensor="${CSS.escape(focused)}"] button`)?.focus();
  const filtered = Object.values(filter()).some(Boolean);
  const empty = filtered ? words.none : words.no_sensors;
  at("shown").textContent = rows.size ? filled(next ? words.shown_more : words.shown, rows.size) : empty;
  at("more").hidden = !next;
  followShown();
}

function newRow(sensor) {
  const row = element("tr", "", { "data-sensor": sensor.sensor });
  const name = element("td");
  const button = element("button", "", { type: "button" });
  button.addEventListener("click", () => select(sensor.sensor));
  name.append(button, element("span", "", { class: "under" }));
  const number = element("td", "", { class: "number" });
  row.addEventListener("animationend", () => row.classList.remove("fresh"));
  row.append(element("td"), name, number, element("td"), element("td", "", { class: "wide" }));
  row.append(element("td", "", { class: "wide" }));
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
  row.toggleAttribute("aria-current", false);
  if (sensor.sensor === selected) row.setAttribute("aria-current", "true");
  return row;
}

// One sensor

async function select(sensor) {
  selected = sensor;
  chartWindows = [];
  showSensors();
  await loadDetail();
  at("detail").focus({ preventScroll: false });
}

function unselect() {
  const row = at("rows").querySelector(`tr[data-sensor="${CSS.escape(selected ?? "")}"] button`);
  selected = null;
  at("detail").hidden = true;
  showSensors();
  row?.focus();
}

async function loadDetail() {
  if (selected === null) return;
  const sensor = selected;
  const path = `sensors/${encodeURIComponent(sensor)}`;
  try {
    const [found, page] = await Promise.all([
      asked(path),
      asked(`${path}/windows`, { size: "1s", limit: CHART_WINDOWS }),
    ]);
    if (sensor !== selected) return;
    chartWindows = page.windows.reverse();
    showDetail(found);
    showChart(found);
  } catch (error) {
    tell("away", filled(words.stale, error.message));
  }
}

function showDetail(found) {
  at("detail-title").textContent = found.name ?? found.sensor;
  const facts = [
    [words.standing, severityOf(found.severity)],
    [words.why, found.severity === "NORMAL" ? null : found.event?.explanation],
    [words.advice, found.severity === "NORMAL" ? null : found.event?.recommended_action],
    [words.since, found.severity === "NORMAL" ? null : moment(found.since)],
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

let chartOf = null; // the sensor in detail, for its unit and limits

function showChart(found) {
  chartOf = found ?? chartOf;
  const { unit, critical } = chartOf;
  const drawn = chart(chartWindows, 600, 160, [critical?.low, critical?.high]);
  if (!drawn) {
    at("chart").replaceChildren();
    at("chart-told").textContent = words.chart_none;
    return;
  }
  const shape = (name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, text] of Object.entries(attributes)) made.setAttribute(key, text);
    return made;
  };
  const limits = drawn.limits.map((y) => shape("line", { x1: 0, x2: 600, y1: y, y2: y }));
  at("chart").replaceChildren(
    shape("polygon", { points: drawn.band }), ...limits, shape("polyline", { points: drawn.line }),
  );
  const [first, last] = [chartWindows[0], chartWindows[chartWindows.length - 1]];
  const times = [first, last].map((each) => clock.format(new Date(each.start)));
  const values = [drawn.least, drawn.greatest, last.mean].map((amount) => value(amount, unit));
  at("chart-told").textContent = filled(words.chart_told, chartWindows.length, ...times, ...values);
}

// What happens

async function loadChanges() {
  try {
    const page = await asked("events", { limit: 50 });
    at("changes").setAttribute("aria-live", "off");
    for (const change of page.events.reverse()) showChange(change);
    setTimeout(() => at("changes").setAttribute("aria-live", "polite"), 500); // what is old is not read out
  } catch (error) {
    tell("away", filled(words.stale, error.message));
  }
}

function showChange(change) {
  if (shownChanges.has(change.event_id)) return;
  shownChanges.add(change.event_id);
  const item = element("li", "", { "data-event": change.event_id, "data-at": change.at });
  const head = element("p");
  const name = change.name ?? rows.get(change.sensor)?.name ?? change.sensor;
  head.append(moment(change.at), " ", severityOf(change.severity), " ", element("strong", name));
  item.append(head, element("p", change.explanation));
  if (change.severity !== "NORMAL") item.append(element("p", change.recommended_action, { class: "advice" }));
  const list = at("changes");
  const older = [...list.children].find((each) => Date.parse(each.dataset.at) <= Date.parse(change.at));
  list.insertBefore(item, older ?? null);
  while (list.children.length > KEPT_CHANGES) {
    shownChanges.delete(list.lastElementChild.dataset.event);
    list.lastElementChild.remove();
  }
  at("changes-none").hidden = true;
}

function takeChange(change) {
  showChange(change);
  const known = rows.get(change.sensor);
  if (known && !(Date.parse(known.since) > Date.parse(change.at))) {
    const { severity, at: since, cause, explanation } = change;
    ahead.set(change.sensor, { severity, since, cause, explanation });
    rows.set(change.sensor, upToDate(known));
    showSensors();
    at("rows").querySelector(`tr[data-sensor="${CSS.escape(change.sensor)}"]`)?.classList.add("fresh");
  }
  if (!known || at("severity").value) reloadSoon();
  if (change.sensor === selected) loadDetail();
}

function takeWindow(window) {
  const known = rows.get(window.sensor);
  const end = new Date(Date.parse(window.start) + window.size_ms).toISOString();
  if (known && !(Date.parse(known.last_seen) > Date.parse(end))) {
    rows.set(window.sensor, { ...known, last_value: window.last, last_seen: end });
    const row = at("rows").querySelector(`tr[data-sensor="${CSS.escape(window.sensor)}"]`);
    if (row) fill(row, rows.get(window.sensor));
  }
  const newest = chartWindows[chartWindows.length - 1];
  if (window.sensor !== selected || !chartOf || (newest && newest.start >= window.start)) return;
  chartWindows = [...chartWindows, window].slice(-CHART_WINDOWS);
  showChart();
}

// The stream

let followed = "";

function followShown() {
  const shown = [...rows.keys()].sort().slice(0, selected === null ? FOLLOWED : FOLLOWED - 1);
  if (selected !== null && !shown.includes(selected)) shown.push(selected);
  const wanted = new URLSearchParams(shown.map((sensor) => ["sensor", sensor])).toString();
  if (wanted === followed) return;
  followed = wanted;
  stream?.abort(); // the next one goes on where this one was
}

async function follow() {
  let pause = FIRST_PAUSE_MS;
  for (;;) {
    stream = new AbortController();
    const asksFor = followed;
    try {
      await read(stream, () => {
        pause = FIRST_PAUSE_MS;
      });
    } catch {
      // Why does not matter: the next attempt tells more.
    }
    if (asksFor !== followed) continue;
    if (at("state").dataset.state !== "away") tell("away");
    await new Promise((resolve) => setTimeout(resolve, pause * (1 + Math.random() / 2)));
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

async function read(controller, onMessage) {
  let watchdog = setTimeout(() => controller.abort(), SILENCE_MS);
  try {
    const answer = await fetch(`api/live?size=1s&${followed}`, {
      headers: { ...headers(), ...(place ? { "Last-Event-ID": place } : {}) },
      cache: "no-store",
      signal: controller.signal,
    });
    if (answer.status === 401) await askToken();
    if (!answer.ok) return;
    if (!place) await Promise.all([loadSensors(), loadChanges()]);
    const parse = messages();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value: text, done } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(() => controller.abort(), SILENCE_MS);
      for (const message of parse(text)) {
        onMessage();
        take(message);
      }
    }
  } finally {
    clearTimeout(watchdog);
  }
}

function take({ id, event, data }) {
  if (id !== null) place = id;
  if (event === "state") tell(data.live ? "live" : "paused");
  if (event === "change") takeChange(data);
  if (event === "window") takeWindow(data);
  if (event === "reset") {
    loadSensors();
    loadChanges();
  }
}

// Beginning

let typed = null;
at("search").addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => loadSensors(), 250); // once somebody stops typing
});
at("severity").addEventListener("change", () => loadSensors());
at("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  loadSensors();
});
at("more").addEventListener("click", () => loadSensors({ more: true }));
at("close").addEventListener("click", unselect);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && selected !== null && !at("ask").open) unselect();
});
setInterval(() => {
  if (document.visibilityState !== "visible" || asking) return;
  loadSensors();
  loadDetail();
}, REFRESH_MS);
loadChanges();
loadSensors().then(follow);
