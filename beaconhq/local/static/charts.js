// The charts: from a view to plotly.js, in the page's colours. No text that came in with an event gets here.

import { chartTime, count, duration, rate, share } from "./format.js";

// What is drawn once plotly.js is there, the latest for each node.
const waiting = new Map();
let loading = null;

/** Run plotly.js: 4.8 MB, which keep a browser busy for a second or two when it sees them first. */
async function load() {
  // Its maps bring an inline style sheet, which the policy blocks with an error in the console. There are no maps
  // here: it gets an element that does nothing.
  document.createElement = function createElement(name, ...rest) {
    return Document.prototype.createElement.call(this, name === "style" ? "template" : name, ...rest);
  };
  try {
    await import("/static/plotly.js");
  } finally {
    delete document.createElement;
  }
  for (const draw of waiting.values()) draw();
  waiting.clear();
}

/** Wait until what is on the page now has been painted. */
const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

const config = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false };

/** What a custom property is as a colour, in the theme of the moment. */
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function layout(extra) {
  const axis = {
    fixedrange: true,
    zeroline: false,
    showline: false,
    gridcolor: colour("grid"),
    tickfont: { color: colour("muted"), size: 11 },
    automargin: true,
    ticks: "outside",
    ticklen: 5,
    tickcolor: "transparent",
  };
  const { xaxis, yaxis, yaxis2, ...rest } = extra;
  return {
    margin: { l: 44, r: 12, t: 8, b: 28 },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { family: getComputedStyle(document.body).fontFamily, color: colour("text"), size: 12 },
    dragmode: false,
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("line"), font: { color: colour("text") } },
    showlegend: false,
    ...rest,
    xaxis: { ...axis, showgrid: false, ...xaxis },
    yaxis: { ...axis, rangemode: "tozero", nticks: 5, ...yaxis },
    ...(yaxis2 && { yaxis2: { ...axis, ...yaxis2 } }),
  };
}

function draw(node, traces, extra, label) {
  node.setAttribute("aria-label", label);
  // Where the script cannot be loaded nothing is drawn: the numbers are on the page as text too.
  const react = () => globalThis.Plotly.react(node, traces, layout(extra), config);
  if (globalThis.Plotly) react();
  else {
    waiting.set(node, react);
    loading ??= painted().then(load);
  }
}

const times = (series) => series.requests.map((_, place) => chartTime(series.start_ms + place * series.step_ms));

function timeAxis(node, series) {
  const span = series.requests.length * series.step_ms;
  const format = span < 180_000 ? "%H:%M:%S" : "%H:%M";
  return {
    type: "date",
    range: [chartTime(series.start_ms), chartTime(series.start_ms + span)],
    nticks: node.clientWidth < 400 ? 4 : 6,
    tickangle: 0,
    ...(span < 2 * 86_400_000 && { tickformat: format }),
    hoverformat: "%H:%M:%S",
  };
}

export function drawTraffic(node, series, now) {
  // The last point is not over yet.
  const lasted = (place) => Math.min(series.step_ms, Math.max(1000, now - series.start_ms - place * series.step_ms));
  const perSecond = series.requests.map((requests, place) => (1000 * requests) / lasted(place));
  const percent = series.requests.map((all, place) => (all ? (100 * series.errors[place]) / all : null));
  const all = series.requests.reduce((sum, each) => sum + each, 0);
  const errors = series.errors.reduce((sum, each) => sum + each, 0);
  const peak = Math.max(...perSecond);
  // A right axis of three round ticks, so that a single error does not look like an outage.
  const top = [5, 10, 20, 50, 100].find((limit) => limit >= Math.max(...percent));
  const x = times(series);
  draw(
    node,
    [
      { name: "requests/s", x, y: perSecond, type: "scatter", mode: "lines", fill: "tozeroy",
        line: { color: colour("accent"), width: 1.5, shape: "hvh" }, fillcolor: colour("accent-soft"),
        hovertemplate: "%{y:.3~g}" },
      { name: "5xx %", x, y: percent, type: "scatter", mode: "lines", yaxis: "y2",
        line: { color: colour("error"), width: 1.5, shape: "hvh" }, hovertemplate: "%{y:.3~g} %" },
    ],
    {
      xaxis: timeAxis(node, series),
      margin: { l: 40, r: 44, t: 8, b: 28 },
      yaxis: { range: [0, peak * 1.15 || 1] },
      yaxis2: { overlaying: "y", side: "right", range: [0, top * 1.05],
        showgrid: false, tickmode: "array", tickvals: [0, top / 2, top],
        ticktext: [0, top / 2, top].map((each) => `${each} %`), tickfont: { color: colour("error"), size: 11 } },
    },
    `${count(all)} requests, at most ${rate(peak)} per second; ${share(errors, all)} answered with 5xx.`,
  );
}

export function drawLatency(node, series, numbers) {
  const x = times(series);
  const line = (name, y, shade, width, dash) => ({
    name, x, y, type: "scatter", mode: "lines+markers", line: { color: colour(shade), width, dash },
    marker: { size: 3, color: colour(shade) }, connectgaps: false, hovertemplate: "%{y:,} ms",
  });
  draw(
    node,
    [
      line("p99", series.p99_ms, "p99", 1.5, "dot"),
      line("p95", series.p95_ms, "p95", 1.5, "solid"),
      line("p50", series.p50_ms, "p50", 2, "solid"),
    ],
    { xaxis: timeAxis(node, series), yaxis: { tickformat: "~s" } },
    `Half of the requests took up to ${duration(numbers.p50_ms)}, 95 % up to ${duration(numbers.p95_ms)}, ` +
      `99 % up to ${duration(numbers.p99_ms)}.`,
  );
}

export function drawHistogram(node, bars) {
  const label = (bar) => (bar[1] - bar[0] === 1 ? count(bar[0]) : `${count(bar[0])}–${count(bar[1] - 1)}`);
  const busiest = bars.reduce((most, bar) => (bar[2] > most[2] ? bar : most), bars[0] ?? [0, 1, 0]);
  draw(
    node,
    [{ x: bars.map(label), y: bars.map((bar) => bar[2]), type: "bar", marker: { color: colour("accent") },
      hovertemplate: "%{y:,} requests<extra></extra>" }],
    { hovermode: "x", bargap: 0.15, xaxis: { type: "category", nticks: 8, tickangle: 0,
      title: { text: "ms", font: { color: colour("muted"), size: 11 }, standoff: 4 } } },
    `Most requests, ${count(busiest[2])}, took ${label(busiest)} ms.`,
  );
}
