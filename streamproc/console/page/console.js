// The page: what the parts of it do together.

import { isAsking } from "./asking.js";
import { loadChanges, loadMissing, showChange } from "./changes.js";
import { isSelected, loadDetail, select, selection, takeDetail, unselect } from "./detail.js";
import { at, words } from "./elements.js";
import { follow, followThese } from "./following.js";
import {
  buttonOf, listed, loadMore, loadOthers, loadSensors, onShown, showSoon, takeChange, takeWindow,
} from "./sensors.js";
import { stand } from "./standing.js";
import { filled, followedQuery, zone } from "./stream.js";

const REFRESH_MS = 15000; // of what does not come live: values of sensors that speak seldom
const TYPING_MS = 250; // once somebody stops typing

function readAnew() {
  return Promise.all([loadSensors(), loadChanges()]);
}

function refresh() {
  if (document.visibilityState !== "visible" || isAsking()) return;
  loadSensors();
  loadDetail();
  loadMissing();
}

function take({ event, data }) {
  if (event === "state") stand(data.live ? "live" : "paused");
  if (event === "reset") readAnew();
  if (event === "window") {
    takeWindow(data);
    takeDetail(data);
  }
  if (event === "change") {
    showChange(data);
    takeChange(data);
    if (isSelected(data.sensor)) loadDetail();
  }
}

function close() {
  const sensor = unselect();
  showSoon();
  if (sensor !== null) buttonOf(sensor)?.focus();
}

onShown(() => followThese(followedQuery([...selection(), ...listed()])));

let typing = null;
at("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(loadOthers, TYPING_MS);
});
at("severity").addEventListener("change", loadOthers);
at("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  loadOthers();
});
at("more").addEventListener("click", loadMore);
at("rows").addEventListener("click", (event) => {
  const row = event.target.closest("button")?.closest("tr");
  if (!row) return;
  select(row.dataset.sensor);
  showSoon();
});
at("close").addEventListener("click", close);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && selection().length && !isAsking()) close();
});
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, REFRESH_MS);
at("zone").textContent = filled(words.zone, zone());

loadChanges();
loadSensors().then(() => follow(take, readAnew));
