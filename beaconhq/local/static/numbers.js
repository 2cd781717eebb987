// The row of large numbers.

import { element, reconcile, setText } from "./dom.js";
import { count, duration, rate, share } from "./format.js";

/** Show count, errors and percentiles; with `seconds` also requests per second over so long. */
export function showNumbers(list, numbers, seconds) {
  const tiles = [
    ["Requests", count(numbers.count)],
    ...(seconds ? [["Per second", rate(numbers.count / seconds)]] : []),
    ["Errors (5xx)", share(numbers.errors, numbers.count), numbers.errors > 0],
    ["p50", duration(numbers.p50_ms)],
    ["p95", duration(numbers.p95_ms)],
    ["p99", duration(numbers.p99_ms)],
  ];
  reconcile(list, tiles, ([name]) => name, ([name]) =>
    element("div", {}, element("dt", {}, name), element("dd")),
  (node, [, value, bad = false]) => {
    setText(node.lastChild, value);
    node.classList.toggle("bad", bad);
  });
}
