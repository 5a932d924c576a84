// What the page is made of: its words, its elements, values as people read them. All text is set as text, never as markup.

export const { language, needs_token: needsToken, words } = JSON.parse(document.getElementById("words").textContent);

const number = new Intl.NumberFormat(language, { maximumSignificantDigits: 6 });
const counter = new Intl.NumberFormat(language, { maximumFractionDigits: 1 }); // of a meter each unit counts
const COUNTERS = [1e5, 1e12];
const dated = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "medium" });
export const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium" });

// The element of this id.
export function at(id) {
  return document.getElementById(id);
}

export function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export function severityOf(name) {
  return element("span", words[name] ?? name, { class: "severity", "data-severity": name });
}

export function moment(text) {
  if (!text) return element("span", words.never);
  const time = new Date(text);
  const today = time.toDateString() === new Date().toDateString();
  return element("time", (today ? clock : dated).format(time), { datetime: text });
}

export function value(amount, unit) {
  if (amount === null || amount === undefined) return "–";
  const [least, most] = COUNTERS;
  const told = (Math.abs(amount) >= least && Math.abs(amount) < most ? counter : number).format(amount);
  return unit ? `${told} ${unit}` : told;
}
