// What the page asks of the gateway, through the same module that other pages use.

import { createClient } from "/chatkit-workers.js";
import { kept } from "./kept.js";

const LAST_ITEMS = 100;

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `The gateway answered ${status}.`);
    this.status = status;
  }
}

/** What can be shown of this deployment; known after the first sign-in. */
export const deployment = { scripted: false, can_break: false, narrow_model: null };

async function getClientSecret() {
  const user = kept.get("user");
  const answer = await fetch("/playground/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(user ? { user } : {}),
  });
  const { user: guest, client_secret: secret, scripted, can_break, narrow_model } = await (await checked(answer)).json();
  kept.set("user", guest);
  Object.assign(deployment, { scripted, can_break, narrow_model });
  return secret;
}

const client = createClient({ getClientSecret });

async function checked(answer) {
  if (answer.ok) return answer;
  throw new Refused(answer.status, await answer.json().catch(() => ({})));
}

async function call(path, init) {
  return (await checked(await client.call(path, init))).json();
}

/** One request that is answered by JSON. */
export async function ask(type, params) {
  return (await checked(await client.chatkit({ type, params }))).json();
}

/** One request that begins a turn; the id of its event. The thread's stream shows what comes of it. */
export async function begin(type, params, metadata = {}) {
  const answer = await checked(await client.chatkit({ type, params, metadata }));
  answer.body?.cancel().catch(() => {});
  return answer.headers.get("X-Event-Id");
}

export const statusOf = (eventId) => call(`/v1/events/${eventId}`);

/** The thread that an event makes: it is known before any worker has seen the event. */
export async function threadOf(eventId) {
  const { lane } = await statusOf(eventId);
  return lane.slice(lane.indexOf("/") + 1);
}

/** What waits or runs in a thread, the running one first. */
export async function openEvents(thread) {
  const events = await call(`/v1/threads/${encodeURIComponent(thread)}/events`);
  return events.filter((event) => !event.type.startsWith("chatkit.ui."));
}

/** A thread with its last items, oldest first. One that is just being made has none: its stream shows all of it. */
export async function load(thread) {
  const [first] = await openEvents(thread);
  if (first?.type === "chatkit.threads.create") return { id: thread, title: null, status: null, items: [] };
  const params = { thread_id: thread };
  const [found, page] = await Promise.all([
    ask("threads.get_by_id", params),
    ask("items.list", { ...params, limit: LAST_ITEMS, order: "desc" }),
  ]);
  return { ...found, items: page.data.reverse() };
}

export const cancel = (eventId) => call(`/v1/events/${eventId}/cancel`, { method: "POST" });

/** Only where `deployment.can_break`. */
export const kill = (eventId) => call(`/playground/kill/${eventId}`, { method: "POST" });

export const follow = (thread, options) => client.follow(`/v1/threads/${encodeURIComponent(thread)}/stream`, options);

/** Tells an agent that waits for it what became of an effect. */
export async function report(name, actionId, outcome) {
  const event = {
    specversion: "1.0", id: crypto.randomUUID(), source: "/page", type: "chatkit.ui.effect",
    data: { name, data: { action_id: actionId, outcome } },
  };
  const headers = { "Content-Type": "application/cloudevents-batch+json" };
  await call("/v1/events", { method: "POST", headers, body: JSON.stringify([event]) }).catch(() => {});
}
