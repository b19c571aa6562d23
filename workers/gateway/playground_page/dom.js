// Building nodes. Text goes in as text, whoever wrote it: nothing here parses HTML.

/** One element; `properties` are set on it, those of `dataset` and attributes with a dash as such. */
export function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value == null) continue;
    if (key.includes("-") || key === "role") node.setAttribute(key, value);
    else if (key === "dataset") Object.assign(node.dataset, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Something that one may want to look into, as JSON. */
export function details(title, value) {
  return el("details", {}, el("summary", {}, title), el("pre", { tabIndex: 0 }, JSON.stringify(value, null, 2)));
}

/** Tells those who hear the page. The same words are told again. */
export function announce(text) {
  const said = byId("said");
  said.textContent = said.textContent === text ? `${text}\u00a0` : text;
}
