// What needs no page: server-sent events out of text, sensors in order and as a query, numbers of a chart. Pure.

// Severities, the worst first, as the list has them.
export const SEVERITIES = ["CRITICAL", "WARN", "NORMAL"];

// Splits a stream of server-sent events: give it text as it comes, and it gives the messages that are whole.
export function messages() {
  let rest = "";
  return (text) => {
    rest += text;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    return blocks.map(message).filter((each) => each !== null);
  };
}

function message(block) {
  const fields = { id: null, event: "message", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  return fields.data === "" ? null : { id: fields.id, event: fields.event, data: JSON.parse(fields.data) };
}

// Sensors as the list has them: the worst first, and by their key, letter by letter.
export function byUrgency(a, b) {
  const worse = SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity);
  return worse || (a.sensor < b.sensor ? -1 : Number(a.sensor > b.sensor));
}

// As many as the console lets one follow, and as long as a URL may be: servers and proxies take 8,190 bytes of a line.
const FOLLOWED = 100;
const LONGEST_QUERY = 6000;

// The query that follows these sensors, the first of them where not all fit; in one order, whatever the list's.
export function followedQuery(sensors) {
  const parts = [];
  let length = 0;
  for (const sensor of new Set(sensors)) {
    const part = new URLSearchParams({ sensor }).toString();
    length += part.length + 1;
    if (parts.length === FOLLOWED || length > LONGEST_QUERY) break;
    parts.push(part);
  }
  return parts.sort().join("&");
}

// A text as a header can have it, a letter a byte of its UTF-8.
export function inBytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

// A text with values in place of each {}.
export function filled(text, ...values) {
  return text.replaceAll("{}", () => String(values.shift()));
}

// The time zone in which the page shows times, as the system that it is on calls it.
export function zone() {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone;
}

// The points of a chart, width by height, of windows by time; null without any. `limits` are drawn where they are in view.
export function chart(windows, width, height, limits = []) {
  if (windows.length === 0) return null;
  const times = windows.map((each) => Date.parse(each.start));
  const first = times[0];
  const span = Math.max(times[times.length - 1] - first, 1);
  let low = Math.min(...windows.map((each) => each.min));
  let high = Math.max(...windows.map((each) => each.max));
  const [least, greatest] = [low, high];
  const air = (high - low || Math.abs(high) || 1) * 0.08;
  [low, high] = [low - air, high + air];
  const x = (at) => round(windows.length === 1 ? width / 2 : ((times[at] - first) / span) * width);
  const y = (value) => round(height - ((value - low) / (high - low)) * height);
  const points = (value) => windows.map((each, at) => `${x(at)},${y(value(each))}`);
  return {
    least,
    greatest,
    line: points((each) => each.mean).join(" "),
    band: [...points((each) => each.max), ...points((each) => each.min).reverse()].join(" "),
    limits: limits.filter((each) => each !== undefined && each !== null && each > low && each < high).map(y),
  };
}

function round(number) {
  return Math.round(number * 10) / 10;
}
