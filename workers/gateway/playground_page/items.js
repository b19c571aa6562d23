// What an item of a thread looks like. `turns.begin(type, params)` sends what is clicked or chosen in it.

import { details, el } from "./dom.js";

const NAMES = {
  custom: "Step", web_search: "Search", thought: "Thought", file: "File", image: "Image",
};

/** The body of an item that is no message; null for what is not shown. */
export function bodyOf(item, turns) {
  switch (item.type) {
    case "widget": return widget(item, turns);
    case "structured_input": return questions(item, turns);
    case "client_tool_call": return pageTool(item, turns);
    case "workflow": return workflow(item.workflow);
    case "task": return workflow({ type: "custom", tasks: [item.task] });
    case "generated_image": return el("p", { className: "soft" }, "An image; this page shows none.");
    case "hidden_context_item": case "sdk_hidden_context": case "end_of_turn": return null;
    default: return details(item.type, item);
  }
}

// ---- widgets ----------------------------------------------------------------------------------------------------

function widget(item, turns) {
  return el("div", { className: "card widget" }, ...parts(item.widget, item, turns));
}

function parts(node, item, turns) {
  const children = [node.children ?? []].flat();
  return children.map((child) => part(child, item, turns));
}

function part(node, item, turns) {
  const text = String(node.value ?? node.label ?? "");
  switch (node.type) {
    case "Title": return el("h2", {}, text);
    case "Caption": case "Label": return el("p", { className: "soft" }, text);
    case "Text": case "Markdown": return el("p", { className: node.weight === "semibold" ? "strong" : "" }, text);
    case "Badge": return el("span", { className: "badge" }, text);
    case "Divider": return el("hr");
    case "Spacer": return null;
    case "Image": return el("p", { className: "soft" }, `Image: ${node.alt ?? "without a text"}`);
    case "Button": return button(node, item, turns);
    case "Row": return el("div", { className: "row" }, ...parts(node, item, turns));
    case "Card": case "ListView": case "ListViewItem": case "Basic": case "Col": case "Box": case "Form":
      return el("div", {}, ...parts(node, item, turns));
    default: return details(String(node.type), node);
  }
}

function button(node, item, turns) {
  const action = node.onClickAction;
  const send = () => turns.begin("threads.custom_action", {
    item_id: item.id, action: { type: action.type, payload: action.payload ?? {} },
  });
  const className = node.style === "secondary" ? "" : "main";
  return el("button", { type: "button", className, disabled: !action, onclick: (event) => once(event.target, send) }, String(node.label ?? "OK"));
}

/** What was sent cannot be sent again by a second click; it can when it could not be sent. */
async function once(clicked, send) {
  clicked.disabled = true;
  if (!(await send())) clicked.disabled = false;
}

// ---- questions --------------------------------------------------------------------------------------------------

function questions(item, turns) {
  if (item.status !== "pending") {
    const answers = item.inputs.map((input) => {
      const said = input.answer?.skipped ? "skipped" : (input.answer?.values ?? []).join(", ");
      return el("p", {}, input.question, " ", el("strong", {}, said || item.status));
    });
    return el("div", { className: "card" }, ...answers);
  }
  const form = el("form", { className: "card" }, ...item.inputs.map((input) => question(input, item)));
  const submit = el("button", { className: "main" }, "Answer");
  form.append(submit);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = new FormData(form);
    const answers = Object.fromEntries(item.inputs.map(({ id }) => {
      const values = given.getAll(id).filter(Boolean);
      return [id, { values, skipped: values.length === 0 }];
    }));
    once(submit, () => turns.begin("threads.add_structured_input", { item_id: item.id, input: { status: "answered", answers } }));
  });
  return form;
}

function question(input, item) {
  const id = `${item.id}-${input.id}`;
  if (input.type === "freeform") {
    return el("p", {}, el("label", { htmlFor: id }, input.question), el("input", { id, name: input.id }));
  }
  const type = input.multiple ? "checkbox" : "radio";
  const options = input.options.map(({ value }) => {
    return el("label", { className: "option" }, el("input", { type, name: input.id, value }), value);
  });
  return el("fieldset", {}, el("legend", {}, input.question), ...options);
}

// ---- tools ------------------------------------------------------------------------------------------------------

function pageTool(item, turns) {
  const card = el("div", { className: "card" }, details(`Tool of this page: ${item.name}`, item.arguments));
  if (item.status !== "pending") return card;
  const send = () => turns.begin("threads.add_client_tool_output", { result: { text: String(getSelection()) } });
  card.append(
    el("p", { className: "soft" }, "The agent waits for what this page says. Select something, and send it."),
    el("button", { type: "button", className: "main", onclick: (event) => once(event.target, send) }, "Send my selection"),
  );
  return card;
}

function workflow({ type, summary, tasks }) {
  const title = summary?.title ?? (type === "reasoning" ? "Thinking" : "Steps");
  return el("details", { className: "steps", open: type !== "reasoning" }, el("summary", {}, title), el("ul", {},
    ...tasks.map((task) => el("li", {}, el("strong", {}, task.title ?? NAMES[task.type] ?? "Step"), " ", task.content ?? "")),
  ));
}
