// What must come before the first paint, and before plotly.js.

{
  // The colours that were chosen on this machine, else those of the system.
  let chosen = null;
  try {
    chosen = localStorage.getItem("theme");
  } catch {
    // Storage may be switched off.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}

// The maps in plotly.js bring an inline style sheet while it loads, which the policy blocks with an error in the
// console. There are no maps here: it gets an element that does nothing. `charts.js` puts this back.
document.createElement = function createElement(name, ...rest) {
  return Document.prototype.createElement.call(this, name === "style" ? "template" : name, ...rest);
};
