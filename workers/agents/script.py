"""What the scripted model says: a pure function from the conversation to the next reply."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from agents.items import TResponseInputItem

from workers.agents.replies import Call, Reply, Say, words
from workers.errors import PermanentError

TO_INTEGRATION = "transfer_to_chatkit_integration_agent"
TO_UI = "transfer_to_ui_coordination_agent"
TO_SERVICES = "transfer_to_service_orchestrator_agent"

UI_WORDS = re.compile(r"\b(forms?|widgets?|buttons?|cards?|notices?|choose|effects?|selection)\b", re.IGNORECASE)
SERVICE_WORDS = re.compile(r"\b(orders?|accounts?|services?|invoices?)\b", re.IGNORECASE)
RENAME = re.compile(r"\b(?:rename|title)\b[^\"“]*[\"“]([^\"”]{1,80})[\"”]", re.IGNORECASE)
SESSION_WORDS = re.compile(r"\b(client secret|new session)\b", re.IGNORECASE)
TURN_WORDS = re.compile(r"\b(who am i|event id|which attempt|this turn)\b", re.IGNORECASE)
FAIL_WORDS = re.compile(r"\bfail on purpose\b", re.IGNORECASE)
LONG_WORDS = re.compile(r"\b(at length|long answer)\b", re.IGNORECASE)
RECORD = re.compile(r"\b(order|account|service|invoice)s?\b\D{0,20}([A-Za-z]{0,4}-?\d[\w-]*)?", re.IGNORECASE)
OWN_TOOLS = frozenset(
    {
        *(TO_INTEGRATION, TO_UI, TO_SERVICES),
        *("get_turn_context", "set_thread_title", "set_thread_status", "send_custom_action", "look_up_record"),
        *("generate_client_secret", "refresh_client_token", "get_session_state", "note_for_later", "update_card"),
        *("show_card", "show_notice", "show_progress", "ask_user", "call_client_tool"),
    }
)
"""The tools and handoffs of the project's own agents. Any other tool or handoff is of a plug-in."""

NO_TOPIC = frozenset({"transfer", "to", "agent", "get", "set", "show", "the", "a", "of"})
STRUCTURED_ANSWER = re.compile(r"^- .*\?: (?!unanswered|skipped)(.+)$", re.MULTILINE)

GREETING = (
    "Hello! Your message went onto a queue, a worker picked it up, and I am answering it word by word. "
    "Ask me how the queue works, ask about order 1042, or ask for a form."
)
FAILURES = (
    "If a worker dies in the middle of an answer, its lease runs out and another worker takes the same event over. "
    "Failures that may pass are tried again with a growing pause; what cannot succeed is kept as a dead letter with "
    "its reason, and you are told so."
)
LIMITS = (
    "When the model provider asks us to slow down, your event is parked. It holds no worker while it waits, and it "
    "goes on by itself as soon as there is room again."
)
QUEUES = (
    "Each conversation has a lane of its own: a first-in, first-out line of events of which one runs at a time. "
    "A Celery task only wakes the lane up, so a lost or a doubled message does no harm. The worker streams what I say "
    "to every browser that has this conversation open."
)
FRAMES = (
    "Every piece of this answer is a numbered frame. If you close the tab I go on, and when you come back your "
    "browser continues after the last frame that it saw."
)
THANKS = "You are welcome. This conversation stays in the store, in order, for whenever you come back."

ANSWERS: Mapping[re.Pattern[str], str] = {
    re.compile(r"\b(hello|hi|hey|good (morning|evening))\b", re.IGNORECASE): GREETING,
    re.compile(r"\b(retr(y|ies)|fail|crash|error|kill)", re.IGNORECASE): FAILURES,
    re.compile(r"\b(rate|limit|429|wait)", re.IGNORECASE): LIMITS,
    re.compile(r"\b(stream|reload|refresh|tab|frame)", re.IGNORECASE): FRAMES,
    re.compile(r"\b(queue|lane|celery|worker|work|how)\b", re.IGNORECASE): QUEUES,
    re.compile(r"\b(thanks|thank you|great|bye)\b", re.IGNORECASE): THANKS,
}
LONG = (
    "Gladly, at length. You pressed Enter, and your message became an event with an id of its own. The gateway "
    "wrote it into the lane of this conversation and let go of it: from then on it could not get lost, and it "
    "could not run twice.\n\n"
    "A wake-up went out through the broker. It carried nothing but two ids, so whether it came once, twice or "
    "never made no difference. A worker took it, asked the lane for the event, and was given a lease: for as long "
    "as it renews that lease, nobody else may write a word of this answer.\n\n"
    "Now I speak, and each piece of what I say is a numbered frame. Reload this page, and your browser goes on "
    "after the last number that it saw. Open the conversation in a second tab, and both tabs follow the same "
    "frames. Press Stop, and what you have seen is exactly what is kept. Kill the worker in mid-sentence, and its "
    "lease runs out; another worker takes the event, finds in the journal what was complete, and goes on from "
    "there. Nothing that was finished is asked for, paid for or done a second time.\n\n"
    "That is all there is to it: a line for each conversation, one lease at a time, and an alarm that always "
    "rings."
)
LONG_PIECE = 4
"""Characters of a frame of it: there is time to do something meanwhile."""
RETRIED = "This time it works: your retry was a new event in the same conversation, and this is its answer."

DEFAULT_ANSWER = (
    "I got your message through the queue. I am the scripted model that stands in when no API key is set, so I only "
    "know a little: ask how the queue works, what happens when a worker fails, about order 1042, or ask for a form."
)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the conversation stands: what the user said last, and what was called and answered since."""

    text: str
    calls: tuple[str, ...]
    last_output: str | None
    tools: frozenset[str]

    @classmethod
    def of(cls, input_: str | list[TResponseInputItem], tools: frozenset[str]) -> "Scene":
        """Read the scene out of a model's input."""
        if isinstance(input_, str):
            return cls(input_, (), None, tools)
        text = ""
        calls: list[str] = []
        output: str | None = None
        for item in cast("list[Mapping[str, Any]]", input_):
            if item.get("role") == "user":
                text, calls, output = _text_of(item), [], None
            elif item.get("type") == "function_call":
                calls.append(str(item.get("name")))
            elif item.get("type") == "function_call_output":
                output = str(item.get("output"))
        return cls(text, tuple(calls), output, tools)

    def called(self, name: str) -> bool:
        return name in self.calls


def next_reply(scene: Scene) -> Reply:
    """The next reply: hand off when another agent is better at it, call one tool, then answer.

    Raises:
        PermanentError: the user wants to see a turn that fails.
    """
    if (shown := _to_be_watched(scene)) is not None:
        return shown
    if chosen := STRUCTURED_ANSWER.findall(scene.text):
        return words(f"Thank you. You chose: {', '.join(chosen)}.")
    if "<HiddenContext>" in scene.text:
        return words("Thank you. Your click came back through the queue, and I have taken note of it.")
    if UI_WORDS.search(scene.text):
        return _elsewhere(scene, TO_UI) or _show(scene)
    if SERVICE_WORDS.search(scene.text):
        return _elsewhere(scene, TO_SERVICES) or _look_up(scene)
    if rename := RENAME.search(scene.text):
        title = rename.group(1)
        done = f"Done: this conversation is called “{title}” now, in every open window."
        return _elsewhere(scene, TO_INTEGRATION) or _once(scene, "set_thread_title", {"title": title}, done)
    if SESSION_WORDS.search(scene.text):
        return _elsewhere(scene, TO_INTEGRATION) or _new_session(scene)
    if TURN_WORDS.search(scene.text):
        return _elsewhere(scene, TO_INTEGRATION) or _turn_context(scene)
    if (reply := _of_a_plug_in(scene)) is not None:
        return reply
    return words(next((answer for pattern, answer in ANSWERS.items() if pattern.search(scene.text)), DEFAULT_ANSWER))


def _elsewhere(scene: Scene, transfer: str) -> Call | None:
    """A handoff, unless the agent that is asked has no such handoff: then it is the right one itself."""
    return Call(transfer) if transfer in scene.tools and not scene.called(transfer) else None


def _to_be_watched(scene: Scene) -> Reply | None:
    """What somebody asks for who wants to see how the system takes it."""
    if FAIL_WORDS.search(scene.text):
        return _elsewhere(scene, TO_INTEGRATION) or _fail_once(scene)
    if LONG_WORDS.search(scene.text):
        return Say(tuple(LONG[start : start + LONG_PIECE] for start in range(0, len(LONG), LONG_PIECE)))
    return None


def _of_a_plug_in(scene: Scene) -> Reply | None:
    """Hand over to the agent, or call the tool, that the user names with a word; then say what the tool gave back."""
    said = set(re.findall(r"[a-z0-9]+", scene.text.lower()))
    meant = [name for name in sorted(scene.tools - OWN_TOOLS) if said & (set(name.split("_")) - NO_TOPIC)]
    if (next_one := next((name for name in meant if not scene.called(name)), None)) is not None:
        return Call(next_one)
    return words(scene.last_output) if scene.last_output and set(meant) & set(scene.calls) else None


def _show(scene: Scene) -> Reply:
    text = scene.text.lower()
    if "notice" in text:
        arguments: dict[str, Any] = {
            "message": "This notice was sent by a worker, not by the web process.",
            "level": "info",
        }
        return _once(scene, "show_notice", arguments, "I have put a notice up for everybody who has this thread open.")
    if "effect" in text:
        arguments = {"action_type": "highlight", "payload": {"target": "composer"}}
        if "outcome" in text:
            said = _json_object(scene.last_output).get("outcome", "nothing")
            return _once(scene, "send_custom_action", arguments | {"wait_seconds": 10}, f"Your page says: {said}.")
        return _once(scene, "send_custom_action", arguments, "I have sent your page the effect “highlight”.")
    if "choose" in text:
        question: dict[str, Any] = {
            "id": "next",
            "question": "What shall we look at next?",
            "options": ["Queues", "Retries"],
        }
        return _once(scene, "ask_user", {"questions": [question]}, "Thank you, I have your choice.")
    if "selection" in text:
        if scene.called("get_selection"):  # a page's answer stands in the history as a call of the page's tool
            return words(f"Your page says that this is selected: {scene.last_output}.")
        return Call("call_client_tool", {"name": "get_selection", "arguments": {}})
    card = {
        "title": "Would you like a call back?",
        "lines": ["This card is a widget, streamed through the same queue as the text around it."],
        "button_label": "Call me back",
        "button_action": "callback.request",
        "button_payload": {"topic": "demo"},
    }
    return _once(scene, "show_card", card, "Here is a small form. Its button sends an action back through the queue.")


def _look_up(scene: Scene) -> Reply:
    match = RECORD.search(scene.text)
    kind = match.group(1).lower() if match else "order"
    key = (match.group(2) if match else None) or "1042"
    return _once(scene, "look_up_record", {"kind": kind, "key": key}, _record_sentence(scene.last_output))


def _turn_context(scene: Scene) -> Reply:
    if not scene.called("get_turn_context"):
        return Call("get_turn_context")
    turn = _json_object(scene.last_output)
    return words(f"You are {turn.get('user', 'somebody')}, and this is event {turn.get('event_id', 'unknown')}.")


def _fail_once(scene: Scene) -> Reply:
    """Fail, unless the page says that this is another try."""
    if not scene.called("get_turn_context"):
        return Call("get_turn_context")
    page = _json_object(scene.last_output).get("page", {})
    if not page.get("variables", {}).get("retry"):
        raise PermanentError("the scripted model was asked to fail", kind="Scripted")
    return words(RETRIED)


def _new_session(scene: Scene) -> Reply:
    if not scene.called("get_turn_context"):
        return Call("get_turn_context")
    known = _json_object(scene.last_output)
    if not scene.called("generate_client_secret"):
        return Call("generate_client_secret", {"user_id": known.get("user", "")})
    if "session_id" not in known:
        return words(str(scene.last_output))
    return words(f"Your page has the client secret of session {known['session_id']}. I have only seen the id.")


def _once(scene: Scene, tool: str, arguments: Mapping[str, Any], then: str) -> Reply:
    """Call the tool once, then say what it did."""
    return words(then) if scene.called(tool) or tool not in scene.tools else Call(tool, arguments)


def _record_sentence(output: str | None) -> str:
    record = _json_object(output)
    if not record.get("found"):
        return "I found no such record under your account. Did you mean order 1042 or invoice 77?"
    facts = ", ".join(f"{name} {value}" for name, value in record.get("facts", {}).items())
    return f"I looked it up for you: {record.get('kind')} {record.get('key')}: {facts}."


def _json_object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _text_of(item: Mapping[str, Any]) -> str:
    content = item.get("content")
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content or [] if isinstance(part, Mapping))
