// The page: from its URL to a question, from each answer to what is on the screen.

import { drawLatency, drawTraffic } from "./charts.js";
import { $, element, reconcile, setText } from "./dom.js";
import { showDetail } from "./drawer.js";
import { count, visible } from "./format.js";
import { Live } from "./live.js";
import { showNumbers } from "./numbers.js";
import { question, readState, writeState } from "./state.js";
import { nobody, showConsumers, showCoverage, showRoutes, sorts, startsDown } from "./tables.js";

const filters = $("filters");
let state = readState();
let view = null;
let asked = null;

const live = new Live((answer) => {
  view = answer;
  show();
});

function ask() {
  asked = question(state);
  live.ask(asked);
  $("pause").setAttribute("aria-pressed", "false");
}

/** Change what is shown, by the user's hand. */
function go(changes, options) {
  state = { ...state, ...changes };
  writeState(state, options);
  if (question(state) !== asked) ask();
  show();
}

const open = (method, route) => go({ method, route });
const choose = (consumer) => go({ consumer: state.consumer === consumer ? null : consumer });

function show() {
  showFilters();
  if (view) {
    const any = view.totals.stored > 0;
    $("welcome").hidden = any;
    $("dashboard").hidden = !any;
    const { series } = view;
    showNotices();
    if (any) {
      showNumbers($("numbers"), view.numbers, (series.step_ms * series.requests.length) / 1000);
      drawTraffic($("traffic"), series, view.now_ms);
      drawLatency($("latency"), series, view.numbers);
      showRoutes(view, state, open);
      showEmpty();
      showConsumers(document.querySelector("#consumer-table tbody"), view.consumers, state.consumer, choose);
      setText($("consumer-count"), count(view.consumer_count));
    }
    showCoverage(view.coverage, view.now_ms, open);
    showTotals();
  }
  showDetail(view, state, choose);
}

function showFilters() {
  for (const input of filters.querySelectorAll("input")) input.checked = input.value === state[input.name];
  $("clear").hidden = !state.status && state.consumer === null;
  const names = (view?.consumers ?? []).map((row) => row.consumer ?? "");
  if (state.consumer !== null && !names.includes(state.consumer)) names.push(state.consumer);
  // An option's value may be empty, so each has its place in front.
  const options = [["any", "All consumers"], ...names.map((name) => [`is ${name}`, name === "" ? nobody : name])];
  const select = filters.elements.consumer;
  reconcile(select, options, ([value]) => value, ([value, name]) =>
    element("option", { value }, visible(name, 60)), () => {});
  select.value = state.consumer === null ? "any" : `is ${state.consumer}`;
}

function showNotices() {
  const notices = view.advice.map((each) => ({ key: each.kind, says: each.says, examples: each.examples }));
  const { rejected, last_rejection: reason } = view.totals;
  if (rejected) {
    const batches = rejected === 1 ? "1 batch was refused" : `${count(rejected)} batches were refused`;
    notices.unshift({ key: "rejected", says: `${batches}, the latest because of ${reason}`, examples: [] });
  }
  reconcile($("notices"), notices, ({ key, says }) => `${key} ${says}`, ({ says, examples }) => {
    const made = element("p", { class: "notice" }, visible(says));
    for (const route of examples) made.append(" ", element("code", {}, visible(route, 80)));
    return made;
  }, () => {});
}

function showEmpty() {
  const none = $("no-routes");
  none.hidden = view.routes.length > 0;
  if (none.hidden || none.childElementCount) return;
  const button = element("button", { type: "button" }, "Show everything");
  button.addEventListener("click", () => go({ window: "all", status: "", consumer: null }));
  none.replaceChildren("No requests match. ", button);
}

function showTotals() {
  const { stored, batches, duplicates } = view.totals;
  const words = [`${count(stored)} events`, `${count(batches)} batches`];
  if (duplicates) words.push(`${count(duplicates)} sent twice, stored once`);
  setText($("totals"), `Stored: ${words.join(", ")}`);
}

filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("change", (event) => {
  const { name, value } = event.target;
  go(name === "consumer" ? { consumer: value === "any" ? null : value.slice(3) } : { [name]: value });
});
$("clear").addEventListener("click", () => {
  go({ status: "", consumer: null });
  // The button is gone, and the focus with it.
  filters.querySelector("input[name=status]:checked").focus();
});

for (const header of document.querySelectorAll("#route-table th[data-sort]")) {
  header.firstElementChild.addEventListener("click", () => {
    const { sort } = header.dataset;
    go({ sort, down: state.sort === sort ? !state.down : startsDown(sort) }, { replace: true });
  });
}

$("drawer").addEventListener("close", () => state.route !== null && go({ method: null, route: null }));
$("drawer").addEventListener("click", (event) => event.target === $("drawer") && $("drawer").close());
$("close").addEventListener("click", () => $("drawer").close());

$("pause").addEventListener("click", () => {
  if ($("pause").getAttribute("aria-pressed") === "true") ask();
  else {
    live.pause();
    $("pause").setAttribute("aria-pressed", "true");
  }
});

const themes = { auto: "Colours: automatic", light: "Colours: light", dark: "Colours: dark" };
function showTheme() {
  const theme = document.documentElement.dataset.theme ?? "auto";
  $("theme").setAttribute("aria-label", themes[theme]);
  setText($("theme"), `Theme: ${theme}`);
}
$("theme").addEventListener("click", () => {
  const names = Object.keys(themes);
  const now = document.documentElement.dataset.theme ?? "auto";
  const next = names[(names.indexOf(now) + 1) % names.length];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("theme", next);
  } catch {
    // It holds until the page is left.
  }
  showTheme();
  show();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

const variables = `BEACON_INGEST_URL=${location.origin} BEACON_INGEST_KEY=dev`;
setText($("variables"), variables);
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(variables);
    setText($("copy"), "Copied");
  } catch {
    getSelection().selectAllChildren($("variables"));
  }
});

addEventListener("popstate", () => {
  state = readState();
  if (question(state) !== asked) ask();
  show();
});

if (!sorts.includes(state.sort)) state.sort = "count";
showTheme();
show();
ask();
