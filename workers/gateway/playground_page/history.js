// The guest's conversations, and the panel that holds them where the window is narrow.

import { byId, el } from "./dom.js";
import { ask } from "./gateway.js";
import { nameOf } from "./kept.js";

const SHOWN = 30;

export function nameFor(thread) {
  return thread.title ?? nameOf(thread.id) ?? `Conversation of ${new Date(thread.created_at).toLocaleString()}`;
}

/** Shows the list anew; `current` is the open one, if any. */
export async function listThreads(current) {
  const { data } = await ask("threads.list", { limit: SHOWN, order: "desc" });
  if (current && !data.some(({ id }) => id === current)) data.unshift({ id: current, title: null, created_at: Date.now() });
  byId("no-threads").hidden = data.length > 0;
  byId("threads").replaceChildren(...data.map((thread) => el("li", {}, el("a", {
    href: `#${thread.id}`, "aria-current": thread.id === current ? "page" : null,
  }, nameFor(thread)))));
}

/** The panel: a button opens it, Escape or a choice closes it. */
export function panel() {
  const [side, menu] = [byId("side"), byId("menu")];
  const set = (open) => {
    side.classList.toggle("open", open);
    menu.setAttribute("aria-expanded", String(open));
  };
  menu.addEventListener("click", () => {
    set(!side.classList.contains("open"));
    if (side.classList.contains("open")) byId("fresh").focus();
  });
  side.addEventListener("click", (event) => {
    if (event.target.closest("a, button")) set(false);
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !side.classList.contains("open")) return;
    set(false);
    menu.focus();
  });
  byId("stage").addEventListener("click", (event) => {
    if (!event.target.closest("#menu")) set(false);
  });
}
