// Connects a ChatKit element to a chatkit-workers gateway. Served by the gateway as it is; types are those of the npm
// package @openai/chatkit.
//
//   const { api, stop } = connect(element, { domainKey, getClientSecret });
//   element.setOptions({ api });

/** @typedef {import("@openai/chatkit").OpenAIChatKit} ChatKitElement */
/** @typedef {import("@openai/chatkit").CustomApiConfig} CustomApiConfig */
/** @typedef {{ id: string, type: string }} EventStatus a part of the answer of `GET /v1/threads/{id}/events` */
/** @typedef {{ event: string, id?: string, data: string }} ServerSentEvent */

/**
 * @typedef {object} ConnectOptions
 * @property {string} domainKey of the page's domain, for the element.
 * @property {(current: string | null) => Promise<string>} getClientSecret gives a client secret: the first one, or the one
 *   after `current`, which the gateway has refused. `null` once more: the user has to sign in again.
 * @property {string} [gateway] where the gateway is; by default where this module was loaded from.
 * @property {(name: string, data: Record<string, unknown>) => unknown} [onEffect] does what an agent wants of the page. An agent
 *   that waits for the outcome (`data.action_id`) is told what it returns, or resolves to: any JSON value of at most 4096 bytes.
 * @property {(session: IssuedSession) => void} [onClientSecret] takes a session that an agent has made or refreshed for the user.
 */

/**
 * @typedef {object} FollowOptions
 * @property {AbortSignal} signal ends it.
 * @property {(isFresh: boolean) => unknown} [onOpen] is awaited each time a connection is there, before its first frame. `true`:
 *   frames may have come that this stream does not show, so what is kept is to be read anew.
 * @property {() => void} [onLost] is told when a connection has ended; the next one is tried after a pause.
 */

/**
 * @typedef {object} Client
 * @property {(path: string, init?: RequestInit) => Promise<Response>} call one request, with the client secret.
 * @property {(request: { type: string, params: object, metadata?: object }) => Promise<Response>} chatkit one request of the
 *   ChatKit protocol. Nothing is stopped by closing its answer: `follow` shows the rest.
 * @property {(path: string, options: FollowOptions) => AsyncGenerator<ServerSentEvent>} follow gives the frames of a stream
 *   (`/v1/threads/{id}/stream`, `/v1/events/{id}/stream`), over as many connections as it takes.
 */

/** @typedef {{ session_id: string, expires_at: string, client_secret: string, refresh_token?: string | null }} IssuedSession */

/**
 * @typedef {object} Connection
 * @property {CustomApiConfig} api for `element.setOptions`.
 * @property {() => Promise<boolean>} stop cancels the turn that runs in the open thread; false when there is none.
 * @property {() => void} close ends everything that `connect` has begun.
 */

export const DOM_EVENTS = /** @type {const} */ ([
  "ready", "error", "effect", "deeplink", "log", "response.start", "response.end", "history.open", "history.close",
  "thread.change", "thread.load.start", "thread.load.end", "tool.change",
]);

/** Effects of the system: no business of `onEffect`. */
const RESERVED = ["reauthenticate", "client_secret", "session"];

const LINGER_MS = 250;
const BATCH = 50;
const MOST_WAITING = 500;
const KEY_KEPT_MS = 5 * 60_000;
const [FIRST_PAUSE_MS, LAST_PAUSE_MS] = [250, 4_000];

/**
 * @param {ChatKitElement} element
 * @param {ConnectOptions} options
 * @returns {Connection}
 */
export function connect(element, options) {
  const { domainKey, getClientSecret, gateway = new URL(import.meta.url).origin } = options;
  const closing = new AbortController();
  const { signal } = closing;
  const secrets = new ClientSecrets(getClientSecret);
  const caller = new Caller(gateway, secrets);
  const forwarder = new Forwarder(caller);
  const effects = new Effects(options, forwarder, () => signIn());
  const turns = new Turns(element, caller, (name, data) => effects.seeAgain(name, data));
  const keys = new IdempotencyKeys();

  /** Until it has succeeded nothing else is to be done about it: the chat itself says that it waits for a sign-in. */
  const signIn = () => secrets.renew().catch((error) => console.warn("chatkit-workers: no sign-in", error));

  for (const name of DOM_EVENTS.filter((name) => name !== "effect")) {
    element.addEventListener(`chatkit.${name}`, (event) => {
      forwarder.add(name, /** @type {CustomEvent} */ (event).detail);
    }, { signal });
  }
  element.addEventListener("chatkit.thread.change", (event) => turns.open(event.detail.threadId), { signal });
  element.addEventListener("chatkit.thread.load.end", (event) => turns.resume(event.detail.threadId), { signal });
  element.addEventListener("chatkit.effect", (event) => {
    effects.see(event.detail.name, event.detail.data ?? {});
  }, { signal });
  addEventListener("pagehide", () => forwarder.flush(), { signal });
  addEventListener("online", () => {
    forwarder.flush(); // what the page shows by now
    if (turns.thread) turns.resume(turns.thread); // what went on meanwhile
  }, { signal });

  return {
    api: {
      url: `${gateway}/chatkit`,
      domainKey,
      fetch: async (input, init) => turns.watch(await keys.send(input, init, (request) => caller.fetch(request))),
    },
    stop: () => turns.stop(),
    close: () => {
      forwarder.flush();
      turns.open(null);
      closing.abort();
    },
  };
}

/**
 * The gateway for a chat without a ChatKit element.
 *
 * @param {Pick<ConnectOptions, "getClientSecret" | "gateway">} options
 * @returns {Client}
 */
export function createClient({ getClientSecret, gateway = new URL(import.meta.url).origin }) {
  const caller = new Caller(gateway, new ClientSecrets(getClientSecret));
  const keys = new IdempotencyKeys();
  return {
    call: (path, init) => caller.call(path, init),
    chatkit: (request) => {
      const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) };
      return keys.send(`${gateway}/chatkit`, init, (keyed) => caller.fetch(keyed));
    },
    follow: (path, options) => followed(caller, path, options),
  };
}

/** The client secret, in memory only. Whoever needs another one at the same time gets the same. */
class ClientSecrets {
  /** @param {ConnectOptions["getClientSecret"]} getClientSecret */
  constructor(getClientSecret) {
    this.getClientSecret = getClientSecret;
    /** @type {string | null} */
    this.current = null;
    /** @type {Promise<string> | null} */
    this.coming = null;
  }

  /**
   * @param {string | null} refused the one that the gateway has refused, if any.
   * @returns {Promise<string>}
   */
  async get(refused = null) {
    if (this.coming) return this.coming;
    // another request may have renewed it since this one was sent
    if (this.current !== null && this.current !== refused) return this.current;
    return this.ask(this.current);
  }

  /** A secret of a new sign-in, whatever the present one is worth. */
  async renew() {
    return this.coming ?? this.ask(null);
  }

  /** @param {string | null} current */
  ask(current) {
    const asked = (async () => this.getClientSecret(current))();
    this.coming = asked.then((secret) => (this.current = secret)).finally(() => (this.coming = null));
    return this.coming;
  }
}

/** Requests with the client secret; a 401 is tried once more with the next one. */
class Caller {
  /**
   * @param {string} gateway
   * @param {ClientSecrets} secrets
   */
  constructor(gateway, secrets) {
    this.gateway = gateway;
    this.secrets = secrets;
  }

  /** @param {Request} request */
  async fetch(request) {
    const spare = request.clone();
    const secret = await this.secrets.get();
    const answer = await fetch(withSecret(request, secret));
    if (answer.status !== 401) return answer;
    await answer.body?.cancel();
    return fetch(withSecret(spare, await this.secrets.get(secret)));
  }

  /**
   * @param {string} path
   * @param {RequestInit} [init]
   */
  call(path, init) {
    return this.fetch(new Request(this.gateway + path, init));
  }
}

/**
 * @param {Request} request
 * @param {string} secret
 */
function withSecret(request, secret) {
  request.headers.set("Authorization", `Bearer ${secret}`);
  return request;
}

/**
 * Whether the same request may succeed later, or has already.
 *
 * @param {Response} answer
 */
function isUnsettled(answer) {
  return answer.status >= 500 || answer.status === 401 || answer.status === 429;
}

/** A request that is sent again because nobody knows what became of it has the key that it had: it makes one event. */
class IdempotencyKeys {
  constructor() {
    /** @type {Map<string, { key: string, at: number }>} */
    this.unsettled = new Map();
  }

  /**
   * @param {RequestInfo | URL} input
   * @param {RequestInit | undefined} init
   * @param {(request: Request) => Promise<Response>} send
   */
  async send(input, init, send) {
    const request = new Request(input, init);
    if (request.method !== "POST" || request.headers.has("Idempotency-Key")) return send(request);
    const body = await request.clone().text();
    const key = this.take(body);
    request.headers.set("Idempotency-Key", key);
    let settled = false;
    try {
      const answer = await send(request);
      settled = !isUnsettled(answer);
      return answer;
    } finally {
      // what was answered or given up has no key any more: the same words may be meant a second time
      if (!settled && !request.signal.aborted) this.unsettled.set(body, { key, at: Date.now() });
    }
  }

  /** @param {string} body */
  take(body) {
    for (const [known, { at }] of this.unsettled) {
      if (Date.now() - at > KEY_KEPT_MS) this.unsettled.delete(known);
    }
    const key = this.unsettled.get(body)?.key ?? crypto.randomUUID();
    this.unsettled.delete(body);
    return key;
  }
}

/** Sends the element's DOM events in batches, for as long as that is possible: they are not worth an error. */
class Forwarder {
  /** @param {Caller} caller */
  constructor(caller) {
    this.caller = caller;
    /** @type {object[]} */
    this.waiting = [];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /**
   * @param {typeof DOM_EVENTS[number]} name
   * @param {unknown} detail
   */
  add(name, detail) {
    this.waiting.push({
      specversion: "1.0",
      id: crypto.randomUUID(),
      source: "/page", // the gateway writes the user's instead
      type: `chatkit.ui.${name}`,
      time: new Date().toISOString(),
      data: dataOf(name, detail),
    });
    if (this.waiting.length >= BATCH) this.flush();
    else this.timer ??= setTimeout(() => this.flush(), LINGER_MS);
  }

  /** With a secret at hand the requests are on their way at once: a page that is left has no other time. */
  flush() {
    clearTimeout(this.timer);
    this.timer = undefined;
    while (this.waiting.length > 0) this.post(this.waiting.splice(0, BATCH));
  }

  /** @param {object[]} batch */
  async post(batch) {
    const sent = this.caller.call("/v1/events", {
      method: "POST",
      headers: { "Content-Type": "application/cloudevents-batch+json" },
      body: JSON.stringify(batch),
      keepalive: true,
    });
    const answer = await sent.catch(() => null);
    // they go with the next event, or when the page is left: no timer asks a user who is signed out again and again
    if (!answer || isUnsettled(answer)) this.waiting = [...batch, ...this.waiting].slice(-MOST_WAITING);
  }
}

/**
 * What is told of an event: ids and names, and what `onEffect` has returned. The rest (`data` of an effect, a deep link or a
 * log, the message of an error) may hold what people wrote.
 *
 * @param {typeof DOM_EVENTS[number]} name
 * @param {any} detail
 */
function dataOf(name, detail) {
  switch (name) {
    case "error": return { error: { name: String(detail?.error?.name ?? "Error").slice(0, 200) } };
    case "effect": return { name: String(detail?.name).slice(0, 200), ...(detail?.data ? { data: detail.data } : {}) };
    case "deeplink": case "log": return { name: String(detail?.name).slice(0, 200) };
    case "thread.change": case "thread.load.start": case "thread.load.end": return { threadId: detail?.threadId ?? null };
    case "tool.change": return { toolId: detail?.toolId ?? null };
    default: return {};
  }
}

/** What agents and the system want of the page. */
class Effects {
  /**
   * @param {ConnectOptions} options
   * @param {Forwarder} forwarder
   * @param {() => void} signIn
   */
  constructor({ onEffect, onClientSecret }, forwarder, signIn) {
    this.onEffect = onEffect;
    this.onClientSecret = onClientSecret;
    this.forwarder = forwarder;
    this.signIn = signIn;
  }

  /**
   * @param {string} name
   * @param {Record<string, unknown>} data
   */
  async see(name, data) {
    if (name === "reauthenticate") this.signIn();
    if (name === "client_secret") this.hand(data);
    const done = RESERVED.includes(name) ? undefined : await this.do(name, data);
    if (typeof data.action_id !== "string") return this.forwarder.add("effect", { name });
    this.forwarder.add("effect", { name, data: { action_id: data.action_id, outcome: done ?? null } });
    this.forwarder.flush(); // an agent waits
  }

  /**
   * An effect of a turn that this page follows and whose answer the element does not read. It may have been seen before
   * the page was loaded again, so only those count that must not wait for the end of the turn.
   *
   * @param {string} name
   * @param {Record<string, unknown>} data
   */
  seeAgain(name, data) {
    if (name === "reauthenticate") this.signIn();
    else if (name === "client_secret") this.hand(data);
    else if (typeof data.action_id === "string") this.see(name, data);
  }

  /** @param {Record<string, unknown>} data without the secret when its minute is over */
  hand(data) {
    if (typeof data.client_secret === "string") this.onClientSecret?.(/** @type {IssuedSession} */ (data));
  }

  /**
   * @param {string} name
   * @param {Record<string, unknown>} data
   */
  async do(name, data) {
    try {
      return await this.onEffect?.(name, data);
    } catch (error) {
      console.warn("chatkit-workers: an effect failed", error);
      return { error: error instanceof Error ? error.name : "Error" };
    }
  }
}

/** The turns of the open thread: those whose answers the element reads, and those that only the gateway knows of. */
class Turns {
  /**
   * @param {ChatKitElement} element
   * @param {Caller} caller
   * @param {(name: string, data: Record<string, unknown>) => void} onEffect
   */
  constructor(element, caller, onEffect) {
    this.element = element;
    this.caller = caller;
    this.onEffect = onEffect;
    /** @type {string | null} */
    this.thread = null;
    /** @type {Set<string>} events whose answers the element reads */
    this.read = new Set();
    /** @type {AbortController | null} of what follows the open thread */
    this.following = null;
  }

  /** @param {string | null} thread */
  open(thread) {
    if (thread === this.thread) return;
    this.following?.abort();
    this.following = null;
    this.thread = thread;
  }

  /**
   * Lets the element read an answer, and takes the turn up when the answer ends: also one that ends well may have been cut
   * off, by a gateway that was replaced.
   *
   * @param {Response} answer
   */
  watch(answer) {
    const id = answer.headers.get("X-Event-Id");
    const isStream = answer.headers.get("Content-Type")?.startsWith("text/event-stream");
    if (!answer.ok || !answer.body || !isStream || !id) return answer;
    this.read.add(id);
    const ended = () => {
      this.read.delete(id);
      if (this.thread) this.resume(this.thread);
    };
    return new Response(watched(answer.body, ended), { status: answer.status, headers: answer.headers });
  }

  /**
   * Follows what runs in a thread, one turn after the other, and has the element look again after each.
   *
   * @param {string} thread
   */
  async resume(thread) {
    this.open(thread);
    if (this.following) return;
    const following = (this.following = new AbortController());
    try {
      while (!following.signal.aborted) {
        const turn = await this.running(thread);
        if (!turn || this.read.has(turn.id)) return;
        await this.follow(turn.id, following.signal);
        if (!following.signal.aborted) await this.element.fetchUpdates();
      }
    } catch (error) {
      if (!following.signal.aborted) console.warn("chatkit-workers: the running turn cannot be followed", error);
    } finally {
      if (this.following === following) this.following = null;
    }
  }

  /**
   * The first turn that waits or runs in a thread. The page's own DOM events stand in the same line.
   *
   * @param {string} thread
   */
  async running(thread) {
    const answer = await this.caller.call(`/v1/threads/${encodeURIComponent(thread)}/events`);
    if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`);
    const events = /** @type {EventStatus[]} */ (await answer.json());
    return events.find((event) => !event.type.startsWith("chatkit.ui."));
  }

  /** @returns {Promise<boolean>} */
  async stop() {
    // a thread that is just being made is not open yet
    const id = this.thread ? (await this.running(this.thread))?.id : [...this.read].at(-1);
    if (!id) return false;
    const answer = await this.caller.call(`/v1/events/${id}/cancel`, { method: "POST" });
    return answer.ok; // 409: it had ended by itself
  }

  /**
   * Reads an event's stream until its end.
   *
   * @param {string} id
   * @param {AbortSignal} signal
   */
  async follow(id, signal) {
    for await (const frame of followed(this.caller, `/v1/events/${id}/stream`, { signal })) this.see(JSON.parse(frame.data));
  }

  /**
   * The element does not see these frames, so what must not wait for the end of the turn is done here.
   *
   * @param {{ type: string, name?: string, data?: Record<string, unknown> }} frame
   */
  see(frame) {
    if (frame.type === "client_effect" && frame.name) this.onEffect(frame.name, frame.data ?? {});
  }
}

/**
 * The frames of a stream until `event: end`, each once. It ends as well when what it follows is past its retention.
 *
 * @param {Caller} caller
 * @param {string} path
 * @param {FollowOptions} options
 * @returns {AsyncGenerator<ServerSentEvent>}
 */
async function* followed(caller, path, { signal, onOpen, onLost }) {
  /** @type {Record<string, string>} */
  let headers = {};
  for (let pause = FIRST_PAUSE_MS; !signal.aborted; pause = Math.min(2 * pause, LAST_PAUSE_MS)) {
    const answer = await caller.call(path, { headers, signal }).catch(() => null);
    if (answer?.status === 404) return; // it has ended, and is past its retention
    if (answer?.status === 400) headers = {}; // that frame is not known any more: from the start
    if (answer && [401, 403].includes(answer.status)) throw new Error(`the gateway answered ${answer.status}`);
    const body = answer?.ok ? answer.body : null;
    if (body) await onOpen?.(!headers["Last-Event-ID"]);
    try {
      for await (const frame of body ? framesOf(body) : []) {
        if (frame.event === "end") return;
        if (frame.id) headers = { "Last-Event-ID": frame.id };
        yield frame;
        pause = FIRST_PAUSE_MS;
      }
    } catch {
      // the connection broke off
    }
    if (signal.aborted) return;
    onLost?.();
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/**
 * @param {ReadableStream<Uint8Array>} body
 * @param {() => void} ended called once, however it ends.
 * @returns {ReadableStream<Uint8Array>}
 */
function watched(body, ended) {
  const reader = body.getReader();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        controller.close();
      } catch (error) {
        controller.error(error);
      }
      ended();
    },
    cancel(reason) {
      ended();
      return reader.cancel(reason);
    },
  });
}

/**
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<ServerSentEvent>}
 */
async function* framesOf(body) {
  const reader = body.pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  try {
    let buffer = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      for (let cut; (cut = buffer.indexOf("\n\n")) >= 0; buffer = buffer.slice(cut + 2)) {
        const frame = frameOf(buffer.slice(0, cut));
        if (frame.data) yield frame;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * @param {string} lines
 * @returns {ServerSentEvent}
 */
function frameOf(lines) {
  /** @type {string[]} */
  const data = [];
  const frame = { event: "message", id: "" };
  for (const line of lines.split("\n")) {
    const [, name, content] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (name === "data") data.push(content);
    else if (name === "event" || name === "id") frame[name] = content;
  }
  return { ...frame, data: data.join("\n") };
}
