// One thread on the page: its items, the notes between them, and the frames that change both.

import { announce, el } from "./dom.js";
import { report } from "./gateway.js";
import { bodyOf } from "./items.js";
import { Notes } from "./kept.js";
import { endNote, noteNode, progressNote } from "./notes.js";

const FIRST_AGENT = "ChatKit Integration Agent";
const NEAR_PX = 120;

export class Conversation {
  /**
   * `turns.begin(type, params, metadata)` begins a turn in this thread; it says whether that could be sent. `pending`: bubbles
   * of messages that are on their way.
   */
  constructor(thread, log, scroller, turns, pending = []) {
    Object.assign(this, { thread, log, scroller, turns, pending });
    this.notes = new Notes(thread);
    this.clear();
  }

  clear() {
    this.items = new Map(); // id -> { node, item, text }
    this.agent = FIRST_AGENT;
    this.speaker = null; // whose name was shown last
    this.error = null; // what the turn said of its failure
    this.isCut = false; // something was taken back, and nothing came since
    this.dead = null; // the last note, if it is a dead letter
    this.log.replaceChildren(...this.pending.map(({ node }) => node));
  }

  /** Shows what is stored. */
  show({ items }) {
    this.clear();
    const notes = Map.groupBy(this.notes.all(), (note) => note.after ?? "");
    const behind = (id) => (notes.get(id) ?? []).forEach((note) => this.addNote(note));
    behind("");
    for (const item of items) {
      this.put(item, false);
      this.goOn();
      behind(item.id);
    }
    this.toEnd();
  }

  // ---- messages that are on their way ---------------------------------------------------------------------------

  /** Shows a message before anybody has it. */
  expect(text) {
    const node = el("li", { className: "item user sending" }, el("div", { className: "bubble" }, text));
    this.log.append(node);
    this.pending.push({ text, node });
    this.toEnd();
    return node;
  }

  failed(node, error, again) {
    const retry = () => {
      this.forget(node);
      again();
    };
    node.append(
      el("p", { className: "error", role: "alert" }, error.message),
      el("button", { type: "button", onclick: retry }, "Send again"),
    );
    this.toEnd();
  }

  forget(node) {
    node.remove();
    this.pending = this.pending.filter((message) => message.node !== node);
  }

  // ---- frames ---------------------------------------------------------------------------------------------------

  /** One frame of the thread's stream. */
  see({ id, event, data }) {
    const frame = JSON.parse(data);
    if (event === "turn.end") return this.end(frame);
    const follow = this.isNearEnd;
    this.apply(id, frame);
    if (follow) this.toEnd();
  }

  apply(id, frame) {
    switch (frame.type) {
      case "thread.item.added": case "thread.item.done": case "thread.item.replaced":
        if (!this.items.has(frame.item.id)) this.answered(id, frame.item.type); // else it is no news
        this.put(frame.item, frame.type === "thread.item.added");
        break;
      case "thread.item.updated": this.update(frame.item_id, frame.update); break;
      case "thread.item.removed": this.remove(frame.item_id); break;
      case "progress_update":
        if (!id) break; // a place in line is shown beside the composer
        this.answered(id);
        this.note({ key: id, ...progressNote(frame.text) });
        break;
      case "notice": this.note({ key: id, kind: "notice", title: frame.title, text: frame.message }); break;
      case "client_effect": this.effect(id, frame.name, frame.data ?? {}); break;
      case "error": this.error = frame.message ?? "Something went wrong."; break;
      default: break;
    }
  }

  /** A turn has ended. */
  end(end) {
    const follow = this.isNearEnd;
    for (const { node } of this.items.values()) node.classList.remove("running");
    const note = endNote(end, this.error);
    this.error = null;
    this.isCut = false;
    if (note) this.note({ key: `end ${end.id}`, ...note });
    else this.tellAnswer();
    if (follow) this.toEnd();
  }

  /** Something of an answer comes: what a dead letter said is past, and who had been cut off goes on. */
  answered(id, type) {
    if (this.isCut) {
      this.isCut = false;
      this.note({ key: `cut ${id}`, kind: "resumed" });
    }
    if (!this.dead) return;
    if (type !== "user_message") this.dropFailedTurn();
    this.goOn();
  }

  /** The conversation goes on behind a dead letter: it stays, and cannot be tried again. */
  goOn() {
    this.dead?.node.querySelector(".retry")?.remove();
    this.dead = null;
  }

  /** The notes of the turn whose dead letter is the last thing in the thread. */
  dropFailedTurn() {
    const keys = [];
    for (let node = this.dead.node; node?.dataset.note; node = node.previousElementSibling) keys.push(node.dataset.note);
    for (const node of [...this.log.children]) if (keys.includes(node.dataset.note)) node.remove();
    this.notes.remove(keys);
    this.agent = this.notes.all().findLast((note) => note.kind === "handoff")?.agent ?? FIRST_AGENT;
  }

  effect(id, name, data) {
    if (name === "client_secret") {
      this.note({ key: id, kind: "step", text: `The page has a client secret of session ${data.session_id}.` });
      return;
    }
    const { action_id: actionId, ...payload } = data;
    this.note({ key: id, kind: "effect", text: `${name} ${JSON.stringify(payload)}` });
    const target = name === "highlight" && document.getElementById(String(payload.target));
    if (target) {
      target.classList.remove("highlighted");
      requestAnimationFrame(() => target.classList.add("highlighted"));
    }
    if (actionId) report(name, actionId, "shown");
  }

  // ---- items ----------------------------------------------------------------------------------------------------

  put(item, running) {
    const body = ["user_message", "assistant_message"].includes(item.type) ? null : bodyOf(item, this.turns);
    const isMessage = item.type.endsWith("_message");
    if (!isMessage && !body) return;
    let entry = this.items.get(item.id);
    if (!entry) {
      entry = { node: el("li", { dataset: { item: item.id } }), content: el("div", { className: "bubble" }) };
      this.items.set(item.id, entry);
      if (item.type === "user_message") this.arrived(textOf(item));
      this.place(entry.node);
      if (item.type !== "user_message") this.sign(entry.node);
      else this.speaker = null;
      entry.node.append(entry.content);
    }
    entry.item = item;
    const kind = item.type === "user_message" ? "user" : item.type === "assistant_message" ? "assistant" : "other";
    entry.node.className = `item ${kind}${running ? " running" : ""}`;
    if (isMessage) {
      entry.parts = item.content.map((part) => part.text);
      entry.content.textContent = entry.parts.join("");
    } else {
      entry.content.replaceChildren(body);
    }
  }

  update(id, change) {
    const entry = this.items.get(id);
    if (!entry) return;
    const at = change.content_index;
    switch (change.type) {
      case "assistant_message.content_part.added":
      case "assistant_message.content_part.done": entry.parts[at] = change.content.text; break;
      case "assistant_message.content_part.text_delta": entry.parts[at] = (entry.parts[at] ?? "") + change.delta; break;
      case "widget.root.updated": return this.put({ ...entry.item, widget: change.widget }, false);
      case "workflow.task.added": case "workflow.task.updated": {
        const tasks = [...entry.item.workflow.tasks];
        tasks[change.task_index] = change.task;
        return this.put({ ...entry.item, workflow: { ...entry.item.workflow, tasks } }, true);
      }
      default: return;
    }
    entry.content.textContent = entry.parts.join("");
  }

  remove(id) {
    const entry = this.items.get(id);
    if (!entry) return;
    this.notes.move(id, this.itemBefore(entry.node));
    entry.node.remove();
    this.items.delete(id);
    this.speaker = null;
    this.isCut = true;
  }

  /** The server has a message: the bubble that stood for it goes. */
  arrived(text) {
    const message = this.pending.find((one) => one.text === text);
    if (message) this.forget(message.node);
  }

  /** Who speaks, when that is somebody else than before. */
  sign(node) {
    if (this.speaker === this.agent) return;
    this.speaker = this.agent;
    node.append(el("p", { className: "speaker", dataset: { agent: slug(this.agent) } }, this.agent));
  }

  // ---- notes ----------------------------------------------------------------------------------------------------

  /** A new note, behind what is there; one that is there already stays. */
  note(note) {
    if (this.log.querySelector(`[data-note="${CSS.escape(note.key)}"]`)) return;
    const whole = { ...note, after: this.itemBefore(null) };
    this.notes.add(whole);
    const node = this.addNote(whole);
    announce(node.textContent);
  }

  addNote(note) {
    const isOfMessage = this.items.get(note.after)?.item.type === "user_message"; // else there is nothing to answer again
    const node = noteNode(note, this.agent, isOfMessage ? (button) => this.retry(button) : null);
    node.dataset.note = note.key;
    this.place(node);
    if (note.kind === "handoff") this.agent = note.agent;
    this.dead = note.kind === "dead" ? { node } : this.dead;
    return node;
  }

  /** What went wrong in the page itself. */
  complain(text) {
    this.place(noteNode({ kind: "error", text }));
    this.toEnd();
    announce(text);
  }

  async retry(button) {
    button.disabled = true;
    const last = [...this.items.values()].filter(({ item }) => item.type === "user_message").at(-1);
    const sent = last && (await this.turns.begin("threads.retry_after_item", { item_id: last.item.id }, { retry: true }));
    if (!sent) button.disabled = false;
  }

  // ---- places ---------------------------------------------------------------------------------------------------

  /** At the end, but before what is still on its way. */
  place(node) {
    this.log.insertBefore(node, this.pending[0]?.node ?? null);
  }

  /** Id of the item before a node; before the end, where there is none. */
  itemBefore(node) {
    let before = node ? node.previousElementSibling : this.log.lastElementChild;
    while (before && !this.items.has(before.dataset.item)) before = before.previousElementSibling;
    return before?.dataset.item;
  }

  tellAnswer() {
    const last = [...this.items.values()].at(-1);
    if (last?.item.type === "assistant_message") announce(`${this.agent}: ${last.content.textContent}`);
  }

  get isNearEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_PX;
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

function textOf(item) {
  return item.content.map((part) => part.text).join("");
}

function slug(agent) {
  return agent.toLowerCase().split(" ")[0];
}
