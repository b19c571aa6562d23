// Things to try. Those that need the scripted model, or a model with a limit, are offered where there is one.

import { byId, el } from "./dom.js";
import { deployment } from "./gateway.js";

const SUGGESTIONS = [
  {
    title: "A long answer", text: "Tell me at length how you work",
    why: "Reload, stop it, open a second tab, or kill its worker.", needs: "scripted",
  },
  {
    title: "A hand-over and a tool", text: "Where is order 1042?",
    why: "One agent hands over to another, which looks something up.",
  },
  { title: "A card", text: "Show me a form, please", why: "A widget whose button comes back through the queue." },
  { title: "A question", text: "Let me choose", why: "The turn ends, and goes on with your answer." },
  {
    title: "A turn that fails", text: "Please fail on purpose",
    why: "It becomes a dead letter, and you can try again.", needs: "scripted",
  },
  {
    title: "A place in line", text: "Hello, I am waiting in line",
    why: "Three at once, of a model that answers one in five seconds.", needs: "narrow_model", crowd: 2,
  },
  {
    title: "An effect on this page", text: "An effect with an outcome, please",
    why: "The agent acts on this page, and hears what came of it.",
  },
];

/** Fills the welcome and the row above the composer; `choose` is given a suggestion. */
export function offer(choose) {
  const offered = SUGGESTIONS.filter(({ needs }) => !needs || deployment[needs]);
  byId("cards").replaceChildren(...offered.map((one) => {
    const inside = [el("strong", {}, one.title), el("span", {}, one.why)];
    return el("li", {}, el("button", { type: "button", onclick: () => choose(one) }, ...inside));
  }));
  byId("chips").replaceChildren(...offered.map((one) => {
    return el("li", {}, el("button", { type: "button", title: one.why, onclick: () => choose(one) }, one.title));
  }));
}
