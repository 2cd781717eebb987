// Elements and lists of elements. Text goes in as text: nothing on this page is parsed as HTML.

export const $ = (id) => document.getElementById(id);

/** Make an element; children are elements or strings. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Foreign text that may break after a slash; what it reads as is unchanged. */
export function breakable(text) {
  return text.split(/(?<=\/)/).flatMap((part) => [part, element("wbr")]);
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Make the children of `parent` those of `items`, in order. Rows stay the same elements while their key does:
 * focus, selection and scrolling survive a refresh.
 */
export function reconcile(parent, items, keyOf, create, update) {
  const focused = document.activeElement;
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = old.get(key);
    old.delete(key);
    if (!child) {
      child = create(item);
      child.dataset.key = key;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of old.values()) child.remove();
  // Moving an element takes the focus from it.
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}
