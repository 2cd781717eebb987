// The stream of views, and the words for how it goes.

import { $, setText } from "./dom.js";

const words = {
  connecting: "Connecting",
  live: "Live",
  paused: "Paused",
  lost: "No connection, trying again",
};

function show(state, said = words[state]) {
  $("live").dataset.state = state;
  setText($("live"), said);
}

export class Live {
  #source = null;

  constructor(onView) {
    this.onView = onView;
  }

  /** Ask another question; the answers to the last one are no longer wanted. */
  ask(query) {
    this.#source?.close();
    const source = new EventSource(`/v1/stream?${query}`);
    this.#source = source;
    source.onmessage = (event) => {
      show("live");
      this.onView(JSON.parse(event.data));
    };
    // The browser connects again by itself.
    source.onerror = () => show("lost");
    source.addEventListener("stopped", () => show("lost", "The server has stopped"));
    source.addEventListener("failed", (event) => show("lost", JSON.parse(event.data).reason));
  }

  pause() {
    this.#source?.close();
    this.#source = null;
    show("paused");
  }
}
