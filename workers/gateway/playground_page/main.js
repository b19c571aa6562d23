// The page: which conversation is open, what is sent, and who is told of it.

import { Activity } from "./activity.js";
import { Conversation } from "./conversation.js";
import { byId } from "./dom.js";
import { begin, deployment, follow, load, Refused, statusOf, threadOf } from "./gateway.js";
import { listThreads, nameFor, panel } from "./history.js";
import { begun, kept, nameThread } from "./kept.js";
import { offer } from "./suggestions.js";

const AGAIN_MS = 2000;
const UNREACHABLE = "The gateway cannot be reached.";

/** What is open: a thread, what shows it, and what ends that. A new conversation has none until its first message. */
let view = draft();

function draft() {
  return { thread: null, conversation: new Conversation(null, byId("log"), byId("scroll"), {}), activity: null, ending: new AbortController() };
}

function close() {
  view.ending.abort();
  view.activity?.close();
}

// ---- conversations ----------------------------------------------------------------------------------------------

function openNew() {
  close();
  view = draft();
  kept.set("thread", null);
  history.replaceState(null, "", location.pathname);
  byId("title").textContent = "New conversation";
  document.title = "chatkit-workers playground";
  link("");
  arrange(null);
  refreshList();
  byId("text").focus();
}

/** Follows a thread. `pending`: bubbles of messages that were sent to begin it. */
function open(thread, pending = []) {
  close();
  const turns = { begin: (type, params, metadata) => beginTurn(type, { thread_id: thread, ...params }, metadata) };
  const conversation = new Conversation(thread, byId("log"), byId("scroll"), turns, pending);
  view = { thread, conversation, activity: new Activity(thread, complain), ending: new AbortController() };
  kept.set("thread", thread);
  if (location.hash !== `#${thread}`) history.replaceState(null, "", `#${thread}`);
  byId("second").href = `#${thread}`;
  arrange(null);
  view.activity.look();
  watch(view);
}

async function watch(mine) {
  const { signal } = mine.ending;
  const onOpen = async (isFresh) => {
    if (isFresh) await showStored(mine);
    link("Connected");
  };
  while (!signal.aborted) {
    try {
      for await (const frame of follow(mine.thread, { signal, onOpen, onLost: () => link("Connecting …") })) {
        if (signal.aborted) return;
        mine.conversation.see(frame);
        mine.activity.saw(frame);
        seen(frame);
      }
      if (!signal.aborted) openNew(); // there is no such conversation (any more)
      return;
    } catch (error) {
      if (signal.aborted) return;
      link(error instanceof Refused ? error.message : "Connecting …");
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

async function showStored(mine) {
  const ends = await Promise.all(begun.in(mine.thread).map(endOf)); // first: what ends from here on is in the stream
  const stored = await load(mine.thread);
  if (mine.ending.signal.aborted) return;
  mine.conversation.show(stored);
  byId("title").textContent = nameFor(stored);
  arrange(stored.status);
  refreshList();
  for (const end of ends.filter((one) => one?.state)) mine.conversation.end(end);
}

/** What has ended before this stream began is in no frame of it. */
async function endOf(id) {
  const { state, reason, ended_at: ended } = await statusOf(id).catch(() => ({ ended_at: true })); // past its retention
  if (!ended) return null;
  begun.end(id);
  return { id, state, reason };
}

/** What a frame says of the thread itself. */
function seen({ event, data }) {
  if (event === "turn.end") {
    begun.end(JSON.parse(data).id);
    return refreshList();
  }
  const { type, thread } = JSON.parse(data);
  if (type !== "thread.created" && type !== "thread.updated") return;
  byId("title").textContent = nameFor(thread);
  arrange(thread.status);
  refreshList();
}

function refreshList() {
  listThreads(view.thread).catch(() => {}); // the list is a kindness
}

/** What is there to be done depends on the thread. */
function arrange(status) {
  const isNew = view.thread === null && byId("log").childElementCount === 0;
  byId("welcome").hidden = !isNew;
  byId("chips").hidden = isNew;
  byId("second").hidden = view.thread === null;
  const locked = status && status.type !== "active";
  for (const id of ["text", "send"]) byId(id).disabled = Boolean(locked);
  byId("text").placeholder = locked ? status.reason ?? `This conversation is ${status.type}.` : "Write a message";
}

function link(words) {
  byId("link").textContent = words;
  byId("link").dataset.ok = String(words === "Connected");
}

// ---- messages ---------------------------------------------------------------------------------------------------

function inputOf(text, model) {
  const content = [{ type: "input_text", text }];
  return { content, attachments: [], inference_options: model ? { model } : {} };
}

async function send(text, model) {
  const mine = view;
  const node = mine.conversation.expect(text);
  arrange(null);
  try {
    const input = inputOf(text, model);
    if (mine.thread !== null) {
      begun.add(mine.thread, await begin("threads.add_user_message", { thread_id: mine.thread, input }));
      mine.activity.look();
      return;
    }
    const event = await begin("threads.create", { input });
    const thread = await threadOf(event);
    begun.add(thread, event);
    nameThread(thread, text);
    if (view === mine) open(thread, mine.conversation.pending);
  } catch (error) {
    mine.conversation.failed(node, reachable(error), () => send(text, model));
  }
}

/** A turn that no message begins: a button, an answer, another try. */
async function beginTurn(type, params, metadata) {
  try {
    begun.add(params.thread_id, await begin(type, params, metadata));
    view.activity?.look();
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

async function choose({ text, needs, crowd }) {
  const model = needs === "narrow_model" ? deployment.narrow_model : undefined;
  try {
    for (let number = 1; number <= (crowd ?? 0); number += 1) {
      const before = `Number ${number} of those before you`;
      nameThread(await threadOf(await begin("threads.create", { input: inputOf(before, model) })), before);
    }
  } catch (error) {
    return complain(error);
  }
  byId("text").focus();
  return send(text, model);
}

function reachable(error) {
  return error instanceof Refused ? error : new Error(UNREACHABLE);
}

function complain(error) {
  view.conversation.complain(reachable(error).message);
}

// ---- controls ---------------------------------------------------------------------------------------------------

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text) return;
  byId("text").value = "";
  byId("text").style.height = "";
  send(text);
});

byId("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});

byId("text").addEventListener("input", ({ target }) => {
  target.style.height = "";
  target.style.height = `${target.scrollHeight + 2}px`;
});

byId("stop").addEventListener("click", () => view.activity?.stop());
byId("kill").addEventListener("click", () => view.activity?.kill());
byId("fresh").addEventListener("click", openNew);
addEventListener("hashchange", () => {
  const named = location.hash.slice(1);
  if (named && named !== view.thread) open(named);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the conversation
  byId("text").focus();
});

panel();
try {
  await listThreads(null);
} catch (error) {
  complain(error);
}
offer(choose);
byId("about").textContent = deployment.scripted ? "No model is configured here, so a scripted one answers." : "";
const last = location.hash.slice(1) || kept.get("thread");
if (last) open(last);
else arrange(null);
byId("text").focus();
