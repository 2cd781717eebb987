// What the page is asked to show, kept in its URL: filters, sorting, the route that is open.

const defaults = { window: "15m", status: "", consumer: null, method: null, route: null, sort: "count", down: true };

export function readState() {
  const query = new URLSearchParams(location.search);
  const state = { ...defaults };
  for (const name of ["window", "status", "consumer", "method", "route", "sort"]) {
    if (query.has(name)) state[name] = query.get(name);
  }
  state.down = query.get("order") !== "up";
  const known = document.querySelector(`input[name=window][value="${CSS.escape(state.window)}"]`);
  if (!known) state.window = defaults.window;
  if (!/^[1-5]?$/.test(state.status)) state.status = "";
  if (state.method === null || state.route === null) state.method = state.route = null;
  return state;
}

/** The part of the state that the server answers; its names are those of `/v1/view`. */
export function question(state) {
  const query = new URLSearchParams({ window: state.window });
  if (state.status) query.set("status", state.status);
  if (state.consumer !== null) query.set("consumer", state.consumer);
  if (state.route !== null) {
    query.set("method", state.method);
    query.set("route", state.route);
  }
  return query.toString();
}

export function writeState(state, { replace = false } = {}) {
  const query = new URLSearchParams(question(state));
  if (state.window === defaults.window) query.delete("window");
  if (state.sort !== defaults.sort) query.set("sort", state.sort);
  if (!state.down) query.set("order", "up");
  const url = query.size ? `?${query}` : location.pathname;
  history[replace ? "replaceState" : "pushState"](null, "", url);
}
