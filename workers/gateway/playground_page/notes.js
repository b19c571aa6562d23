// What stands between the items of a thread: who hands over to whom, what tools do, and how a turn has ended.

import { el } from "./dom.js";

const HANDING_OVER = "Handing over to the ";
const REASONS = {
  invalid: "it could not be read", permanent: "it was refused, and is not tried again by itself", attempts_exhausted: "every attempt has failed",
  worker_lost: "it has ended its workers", quota: "the provider's quota is used up", authentication: "nobody has signed in",
  loop: "the agents kept handing it over", overflow: "its line was full", bug: "a fault of the program",
};

/** The note that a progress frame makes. */
export function progressNote(text) {
  if (text.startsWith(HANDING_OVER)) return { kind: "handoff", agent: text.slice(HANDING_OVER.length) };
  return { kind: "step", text };
}

/** The note that the end of a turn makes, if it is not what one expects; `error`: what was said of it. */
export function endNote({ id, state, reason }, error) {
  switch (state) {
    case "dead": return { kind: "dead", event: id, reason };
    case "dropped": return { kind: "error", text: error ?? "This message was not answered." };
    case "cancelled": return { kind: "stopped" };
    default: return error ? { kind: "error", text: error } : null;
  }
}

/** Its node, and the words for those who hear the page. */
export function noteNode(note, agentBefore, retry) {
  switch (note.kind) {
    case "handoff": return row("handoff", `${agentBefore} `, el("span", { className: "hidden" }, "hands over to"), el("span", { "aria-hidden": "true" }, "→ "), el("strong", {}, note.agent));
    case "step": return row("step", note.text);
    case "effect": return row("step", `Effect on this page: ${note.text}`);
    case "notice": return row("notice", note.title ? el("strong", {}, `${note.title} `) : null, note.text);
    case "resumed": return row("resumed", "The answer was cut off here. Another worker went on, from the last step that was complete.");
    case "stopped": return row("stopped", "Stopped. What is shown is exactly what is kept.");
    case "error": return el("li", { className: "note error" }, el("p", {}, note.text));
    case "dead": return deadLetter(note, retry);
    default: return row("step", "");
  }
}

function row(kind, ...children) {
  return el("li", { className: `note ${kind}` }, el("p", {}, ...children));
}

/** What its user may know: that it is kept, the kind of reason, and the name under which an operator finds it. */
function deadLetter(note, retry) {
  const letter = el("div", { role: "group", "aria-label": "Dead letter" },
    el("p", {}, el("strong", {}, "This message could not be answered.")),
    el("p", {}, `It is kept as a dead letter: ${REASONS[note.reason] ?? note.reason ?? "no reason is known"}.`),
    el("p", { className: "soft" }, "Reference ", el("code", {}, note.event)),
    retry ? el("button", { type: "button", className: "retry", onclick: (event) => retry(event.target) }, "Try again") : null,
  );
  return el("li", { className: "note error dead" }, letter);
}
