// What goes on in the open thread: who waits for what, and for how long; stop it, or kill its worker.

import { announce, byId } from "./dom.js";
import { cancel, deployment, kill, openEvents } from "./gateway.js";

const LOOK_MS = 700;
const QUIET_MS = 2500;
const LAST_WORDS_MS = 500; // what a killed worker had sent before

export class Activity {
  constructor(thread, onError) {
    Object.assign(this, { thread, onError });
    this.events = [];
    this.seen = performance.now(); // when the last frame came
    this.killed = null; // what was told of a kill, until the next frame
    this.killedAt = 0;
    this.most = 0; // the longest that it had to wait for its place, in seconds
    this.looking = false;
    this.again = false;
    this.closed = false;
  }

  get head() {
    return this.events[0];
  }

  /** A frame has come, so something goes on. */
  saw({ event, id }) {
    const now = performance.now();
    if (id && now - this.killedAt > LAST_WORDS_MS) this.killed = null;
    if (id) this.seen = now;
    if (event === "turn.end") this.events = this.events.slice(1);
    this.draw();
    this.look();
  }

  /** Looks, again and again while something goes on. */
  async look() {
    this.again = true;
    if (this.looking) return;
    this.looking = true;
    while (!this.closed && (this.again || this.events.length)) {
      this.again = false;
      try {
        this.events = await openEvents(this.thread);
      } catch {
        this.again = true; // the connection's own state says that it is lost
      }
      if (!this.closed) this.draw();
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    this.looking = false;
  }

  close() {
    this.closed = true;
    this.events = [];
    this.draw();
  }

  async stop() {
    await this.act("stop", cancel);
  }

  async kill() {
    const told = await this.act("kill", kill);
    if (!told) return;
    this.killed = `Its worker is killed. The answer pauses until its lease of ${told.lease_seconds} s has ended, and goes on elsewhere.`;
    this.killedAt = performance.now();
    this.draw();
  }

  async act(name, how) {
    const button = byId(name);
    if (!this.head || button.getAttribute("aria-disabled")) return null;
    button.setAttribute("aria-disabled", "true"); // one that is disabled loses the focus
    try {
      return await how(this.head.id);
    } catch (error) {
      if (error.status !== 409) this.onError(error); // 409: it has ended by itself
      return null;
    } finally {
      button.removeAttribute("aria-disabled");
    }
  }

  draw() {
    const box = byId("activity");
    const hadFocus = box.contains(document.activeElement);
    box.hidden = !this.head;
    if (!this.head) {
      byId("status").textContent = "";
      if (hadFocus) byId("text").focus();
      return;
    }
    const { state } = this.head;
    box.dataset.state = this.killed ? "paused" : this.isQuiet ? "paused" : state;
    tell(this.words());
    byId("kill").hidden = !(deployment.can_break && state === "running" && !this.killed);
    this.drawWait();
  }

  get isQuiet() {
    return this.head.state === "running" && performance.now() - this.seen > QUIET_MS;
  }

  words() {
    const { state, attempt, place, eta_seconds: eta, reason } = this.head;
    const more = this.events.length - 1;
    const behind = more ? ` ${more} more wait${more > 1 ? "" : "s"} behind it.` : "";
    switch (state) {
      case "waiting_limit":
        if (reason === "authentication") return "Please sign in again: this message waits until you have.";
        return eta == null ? `Waiting in line.${behind}` : `Number ${place} in line, about ${Math.ceil(eta)} s.${behind}`;
      case "waiting_retry": return `An attempt has failed; trying again soon (attempt ${attempt}).${behind}`;
      case "queued": return `Waiting for a worker.${behind}`;
      default:
        if (this.killed) return this.killed;
        if (this.isQuiet) return `The answer has paused. If its worker is gone, another one goes on by itself.${behind}`;
        return `Answering.${behind}`;
    }
  }

  drawWait() {
    const bar = byId("wait");
    const eta = this.head.state === "waiting_limit" ? this.head.eta_seconds : null;
    bar.hidden = eta == null;
    this.most = eta == null ? 0 : Math.max(this.most, eta, 1);
    if (eta != null) bar.value = 1 - eta / this.most;
  }
}

function tell(words) {
  const status = byId("status");
  if (status.textContent === words) return;
  // each second of a wait is shown, and told once
  if (status.textContent.replace(/\d+/g, "") !== words.replace(/\d+/g, "")) announce(words);
  status.textContent = words;
}
