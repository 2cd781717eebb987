// The drill-down of one route.

import { drawHistogram } from "./charts.js";
import { $, element, reconcile, setText } from "./dom.js";
import { clock, count, duration, share, visible } from "./format.js";
import { showNumbers } from "./numbers.js";
import { methodBadge, nobody, showConsumers } from "./tables.js";

export function showDetail(view, state, onChoose) {
  const drawer = $("drawer");
  if (state.route === null) {
    if (drawer.open) drawer.close();
    return;
  }
  if ($("drawer-title").dataset.key !== `${state.method} ${state.route}`) {
    $("drawer-title").dataset.key = `${state.method} ${state.route}`;
    $("drawer-title").replaceChildren(methodBadge(state.method), " ", visible(state.route));
  }
  if (!drawer.open) drawer.showModal();
  const detail = view?.detail;
  // The view at hand may still be the answer to an earlier question.
  const current = detail && detail.method === state.method && detail.route === state.route;
  drawer.classList.toggle("waiting", !current);
  if (!current) return;
  showNumbers($("drawer-numbers"), detail.numbers, null);
  showMix(detail);
  drawHistogram($("histogram"), detail.bars);
  showConsumers(document.querySelector("#callers tbody"), detail.consumers, state.consumer, onChoose);
  showExamples($("failures"), detail.failures, "None in this window.");
  showExamples($("slowest"), detail.slowest, "No single events of this window are stored.");
}

function showMix({ classes, numbers }) {
  const parts = Object.entries(classes).filter(([, requests]) => requests > 0);
  reconcile($("mix"), parts, ([digit]) => digit, ([digit]) => element("i", { class: `s${digit}` }),
    (node, [, requests]) => node.style.setProperty("flex-grow", String(requests)));
  const said = ([digit, requests]) => `${digit}xx ${share(requests, numbers.count)}`;
  $("mix").setAttribute("aria-label", parts.map(said).join(", "));
  reconcile($("mix-legend"), parts, ([digit]) => digit, ([digit]) => {
    const item = element("li", {}, element("i", { class: `s${digit}` }), element("span"));
    return item;
  }, (node, part) => setText(node.lastChild, `${said(part)} (${count(part[1])})`));
}

function showExamples(list, examples, none) {
  if (!examples.length) {
    list.replaceChildren(element("li", { class: "muted" }, none));
    return;
  }
  const keys = new Map();
  const keyOf = (example) => {
    const key = JSON.stringify(example);
    keys.set(key, (keys.get(key) ?? 0) + 1);
    return `${key} ${keys.get(key)}`;
  };
  reconcile(list, examples, keyOf, example, () => {});
}

function example(event) {
  const item = element("li");
  const at = element("time", { datetime: event.ts, title: event.ts }, clock(event.ts));
  const line = element("p", {}, at, element("span", { class: `status s${Math.floor(event.status / 100)}` },
    String(event.status)), element("span", { class: "took" }, duration(event.duration_ms)),
  element("span", { class: "muted who" }, event.consumer === null ? nobody : visible(event.consumer, 60)));
  item.append(line, element("p", { class: "path" }, visible(event.path)));
  if (event.error !== null) item.append(element("p", { class: "error" }, visible(event.error, 2000)));
  return item;
}
