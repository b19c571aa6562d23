// A stand-in for the ChatKit element: the methods and events that @openai/chatkit publishes, and plain text for a look.

/** @typedef {import("@openai/chatkit").OpenAIChatKit} OpenAIChatKit */
/** @typedef {import("@openai/chatkit").ChatKitOptions} ChatKitOptions */
/** @typedef {import("@openai/chatkit").ChatKitEvents} ChatKitEvents */

/** @implements {OpenAIChatKit} */
class StandIn extends HTMLElement {
  /** @type {ChatKitOptions | null} */ options = null;
  /** @type {string | null} */ thread = null;
  fetched = 0;

  /** @param {ChatKitOptions} options */
  setOptions(options) {
    this.options = options;
    this.tell("chatkit.ready", undefined);
    if (options.initialThread) this.setThreadId(options.initialThread);
  }

  async focusComposer() {}
  async showHistory() { this.tell("chatkit.history.open", undefined); }
  async hideHistory() { this.tell("chatkit.history.close", undefined); }
  async setComposerValue() {}

  /** @param {string | null} threadId */
  async setThreadId(threadId) {
    this.change(threadId);
    if (!threadId) return;
    this.tell("chatkit.thread.load.start", { threadId });
    await this.load();
    this.tell("chatkit.thread.load.end", { threadId });
  }

  async fetchUpdates() {
    this.fetched += 1;
    await this.load();
  }

  /** @type {OpenAIChatKit["sendCustomAction"]} */
  async sendCustomAction(action, itemId) {
    await this.stream("threads.custom_action", { thread_id: this.thread, item_id: itemId, action });
  }

  /** @type {OpenAIChatKit["sendUserMessage"]} */
  async sendUserMessage({ text, newThread }) {
    const input = { content: [{ type: "input_text", text }], attachments: [], inference_options: {} };
    if (newThread || !this.thread) await this.stream("threads.create", { input });
    else await this.stream("threads.add_user_message", { thread_id: this.thread, input });
  }

  /**
   * @param {string} type
   * @param {object} params
   */
  request(type, params) {
    const api = this.options?.api;
    if (!api || !("url" in api) || !api.fetch) throw new Error("a custom backend is needed");
    const body = JSON.stringify({ type, params });
    return api.fetch(api.url, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  }

  /**
   * @param {string} type
   * @param {object} params
   */
  async stream(type, params) {
    this.tell("chatkit.response.start", undefined);
    try {
      const answer = await this.request(type, params);
      if (!answer.ok) throw new Error(`HTTP ${answer.status} for what was written: ${JSON.stringify(params)}`);
      await this.read(answer);
    } catch (error) {
      this.tell("chatkit.error", { error: /** @type {Error} */ (error) });
    }
    this.tell("chatkit.response.end", undefined);
  }

  /** @param {Response} answer */
  async read(answer) {
    const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).getReader();
    const decoder = new TextDecoder();
    let buffer = "";
    for (let chunk; !(chunk = await reader.read()).done;) {
      buffer += decoder.decode(chunk.value, { stream: true });
      const blocks = buffer.split("\n\n");
      buffer = blocks.pop() ?? "";
      for (const block of blocks) {
        const line = block.split("\n").find((each) => each.startsWith("data: "));
        if (line) this.frame(JSON.parse(line.slice("data: ".length)));
      }
    }
  }

  /** @param {any} frame */
  frame(frame) {
    switch (frame.type) {
      case "thread.created": this.change(frame.thread.id); break;
      case "thread.item.added": case "thread.item.done": this.show(frame.item); break;
      case "thread.item.updated":
        if (frame.update.type === "assistant_message.content_part.text_delta") {
          this.node(frame.item_id, "assistant_message").append(frame.update.delta);
        }
        break;
      case "client_effect": this.tell("chatkit.effect", { name: frame.name, data: frame.data }); break;
    }
  }

  async load() {
    const answer = await this.request("threads.get_by_id", { thread_id: this.thread });
    const thread = await answer.json();
    this.replaceChildren();
    for (const item of thread.items.data) this.show(item);
  }

  /** @param {{ id: string, type: string, content?: { text: string }[] }} item */
  show(item) {
    if (item.content) this.node(item.id, item.type).textContent = item.content.map((part) => part.text).join("");
  }

  /**
   * @param {string} id
   * @param {string} type
   */
  node(id, type) {
    const known = [...this.children].find((child) => child.id === id);
    if (known) return known;
    const made = document.createElement("p");
    made.id = id;
    made.className = type;
    this.append(made);
    return made;
  }

  /** @param {string | null} threadId */
  change(threadId) {
    this.thread = threadId;
    this.tell("chatkit.thread.change", { threadId });
  }

  /**
   * @template {keyof ChatKitEvents} K
   * @param {K} name
   * @param {ChatKitEvents[K]["detail"]} detail
   */
  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

customElements.define("openai-chatkit", StandIn);
