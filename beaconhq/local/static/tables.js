// The tables: routes, consumers, and the routes of an app that were never called.

import { $, breakable, element, reconcile, setText } from "./dom.js";
import { ago, count, duration, share, visible } from "./format.js";

const unit = { count: 1, rate: 1, p50: 1, p95: 1, p99: 1, seen: 1 };

const valueOf = {
  method: (row) => row.method,
  route: (row) => row.route,
  count: (row) => row.numbers.count,
  rate: (row) => row.numbers.errors / row.numbers.count,
  p50: (row) => row.numbers.p50_ms,
  p95: (row) => row.numbers.p95_ms,
  p99: (row) => row.numbers.p99_ms,
  seen: (row) => Date.parse(row.last_seen),
};

export const sorts = Object.keys(valueOf);
/** Numbers start with the largest, words with the first. */
export const startsDown = (sort) => sort in unit;

function sorted(rows, { sort, down }) {
  const of = valueOf[sort] ?? valueOf.count;
  const sign = down ? -1 : 1;
  // The server's order, the busiest first, decides between equals.
  return [...rows].sort((one, other) => sign * (of(one) > of(other)) - sign * (of(one) < of(other)));
}

const cell = (kind = "") => element("td", { class: kind });

function errorCell(node, numbers) {
  setText(node, share(numbers.errors, numbers.count));
  node.classList.toggle("bad", numbers.errors > 0);
  node.classList.toggle("muted", numbers.errors === 0);
}

export function methodBadge(method) {
  return element("span", { class: "method", "data-method": method }, visible(method, 16));
}

/** The button that opens a route; its name is the method and the route. */
function routeButton(method, route, onOpen) {
  const button = element("button", { type: "button", class: "route" });
  button.append(element("span", { class: "narrow" }, `${visible(method, 16)} `), ...breakable(visible(route)));
  button.setAttribute("aria-label", `${visible(method, 16)} ${visible(route)}: open`);
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    onOpen(method, route);
  });
  return button;
}

function routeRow(row, onOpen) {
  const made = element("tr");
  const [method, route] = [cell("wide"), element("th", { scope: "row" })];
  method.append(methodBadge(row.method));
  route.append(routeButton(row.method, row.route, onOpen));
  made.append(method, route, cell("number share"), cell("number"), cell("number wide"), cell("number"),
    cell("number wide"), cell("number wide muted"));
  made.addEventListener("click", () => getSelection().isCollapsed && onOpen(row.method, row.route));
  return made;
}

export function showRoutes(view, state, onOpen) {
  const most = Math.max(1, ...view.routes.map((row) => row.numbers.count));
  reconcile(
    document.querySelector("#route-table tbody"),
    sorted(view.routes, state),
    (row) => `${row.method} ${row.route}`,
    (row) => routeRow(row, onOpen),
    (node, row) => {
      const [, , requests, errors, p50, p95, p99, seen] = node.children;
      setText(requests, count(row.numbers.count));
      requests.style.setProperty("--share", `${(100 * row.numbers.count) / most}%`);
      errorCell(errors, row.numbers);
      setText(p50, duration(row.numbers.p50_ms));
      setText(p95, duration(row.numbers.p95_ms));
      setText(p99, duration(row.numbers.p99_ms));
      setText(seen, ago(row.last_seen, view.now_ms));
      seen.title = row.last_seen;
    },
  );
  for (const header of document.querySelectorAll("#route-table th[data-sort]")) {
    if (header.dataset.sort !== state.sort) header.removeAttribute("aria-sort");
    else header.setAttribute("aria-sort", state.down ? "descending" : "ascending");
  }
  const shown = view.routes.length;
  setText($("route-count"), shown < view.route_count ? `the busiest ${count(shown)} of ${count(view.route_count)}`
    : count(shown));
}

export const nobody = "no consumer";

export function showConsumers(body, rows, chosen, onChoose) {
  reconcile(
    body,
    rows,
    (row) => (row.consumer === null ? "none" : `named ${row.consumer}`),
    (row) => {
      const made = element("tr");
      const name = element("th", { scope: "row" });
      const button = element("button", { type: "button", class: row.consumer === null ? "route nobody" : "route" },
        row.consumer === null ? nobody : visible(row.consumer));
      button.addEventListener("click", () => onChoose(row.consumer ?? ""));
      name.append(button);
      made.append(name, cell("number"), cell("number"), cell("number"));
      return made;
    },
    (node, row) => {
      const [name, requests, errors, p95] = node.children;
      const pressed = chosen === (row.consumer ?? "");
      name.firstChild.setAttribute("aria-pressed", String(pressed));
      setText(requests, count(row.numbers.count));
      errorCell(errors, row.numbers);
      setText(p95, duration(row.numbers.p95_ms));
    },
  );
}

function callers(row) {
  if (row.last_seen === null) return "nobody";
  const named = row.callers.map((each) => `${visible(each.consumer, 40)} (${count(each.count)})`);
  if (row.caller_count > row.callers.length) named.push(`${count(row.caller_count - row.callers.length)} more`);
  return named.join(", ") || nobody;
}

export function showCoverage(coverage, now, onOpen) {
  $("coverage").hidden = !coverage;
  if (!coverage) return;
  const never = coverage.routes.filter((row) => row.last_seen === null);
  const old = coverage.routes.filter((row) => row.deprecated && row.last_seen !== null);
  setText($("coverage-title"), `Routes of ${visible(coverage.app)}`);
  const says = [`${count(never.length)} of ${count(coverage.routes.length)} never called`];
  if (old.length) says.push(`${count(old.length)} deprecated and still called`);
  setText($("coverage-says"), `${says.join(", ")}. Over all stored events.`);
  reconcile(
    document.querySelector("#coverage-table tbody"),
    [...never, ...coverage.routes.filter((row) => row.last_seen !== null)],
    (row) => `${row.method} ${row.route} ${row.last_seen === null}`,
    (row) => {
      const called = row.last_seen !== null;
      const made = element("tr", { class: called ? "" : "never" });
      const [method, route] = [cell("wide"), element("th", { scope: "row" })];
      method.append(methodBadge(row.method));
      if (called && row.method !== "*") route.append(routeButton(row.method, row.route, onOpen));
      else route.append(element("span", { class: "narrow" }, `${visible(row.method)} `), visible(row.route));
      if (row.deprecated) route.append(" ", element("span", { class: "tag" }, "deprecated"));
      made.append(method, route, cell("number"), cell("callers"), cell("number wide muted"));
      return made;
    },
    (node, row) => {
      const [, , requests, called, seen] = node.children;
      setText(requests, count(row.count));
      setText(called, callers(row));
      setText(seen, row.last_seen === null ? "never" : ago(row.last_seen, now));
    },
  );
  $("foreign").hidden = coverage.foreign.length === 0;
  const foreign = coverage.foreign.slice(0, 10).map(([method, route]) => `${visible(method)} ${visible(route, 80)}`);
  if (coverage.foreign.length > foreign.length) foreign.push("…");
  setText($("foreign"), `Called, but not in this app: ${foreign.join(", ")}`);
}
