"""Routes as data: the first rule that fits decides, and nothing else does."""

import copy
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Event
from tests.builders import create_event, feedback_event, message_event, request_event
from tests.forked import ROOT
from workers.errors import SettingsError
from workers.routing import AGENTS, NOWHERE, Route, Router, default_queue
from workers.setting_types import Routes
from workers.settings import Settings


def router(
    *rules: dict[str, Any], handoffs: Mapping[str, str] | None = None, handlers: Sequence[str] = ("ping",)
) -> Router:
    routes = Routes.model_validate({"rules": list(rules), "handoffs": handoffs or {}})
    return Router(routes, agents=(*AGENTS, "weather"), handlers=handlers)


def pressed(type_: str, payload: Any = None, **attributes: Any) -> Event:
    """A widget action."""
    action = {"type": type_, "payload": payload}
    params = {"thread_id": "thr_1", "item_id": "wid_1", "action": action}
    return request_event("threads.custom_action", params, **attributes)


def test_the_first_rule_that_fits_decides() -> None:
    orders = {
        "type": "threads.custom_action",
        "data": {"params.action.type": "order.*"},
        "agent": "service_orchestrator",
    }
    slow = {"type": "threads.*", "queue": "chatkit.background"}
    asked = router(orders, slow)
    assert asked.route(pressed("order.cancel")) == Route(agent="service_orchestrator")
    assert asked.route(pressed("card.close")) == Route(queue="chatkit.background")
    assert asked.route(feedback_event("thr_1")) == NOWHERE
    assert router(slow, orders).route(pressed("order.cancel")) == Route(queue="chatkit.background")


def test_without_a_rule_priority_and_kind_decide_the_queue() -> None:
    asked = router({"type": "threads.create", "agent": "weather", "queue": "chatkit.agent.weather"})
    assert asked.queue_of(create_event()) == "chatkit.agent.weather"
    assert asked.queue_of(message_event("thr_1")) == "chatkit.interactive"
    assert asked.queue_of(message_event("thr_1", priority="background")) == "chatkit.background"
    assert asked.queue_of(feedback_event("thr_1")) == "chatkit.background"
    assert router({"agent": "weather"}).queue_of(create_event()) == "chatkit.interactive"


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("params.action.payload.number", "42", True),
        ("params.action.payload.number", "4?", True),
        ("params.action.payload.urgent", "true", True),
        ("params.action.payload.tags.1", "red", True),
        ("params.action.payload.tags.2", "*", False),
        ("params.action.payload.tags.x", "*", False),
        ("params.action.payload.tags", "*", False),
        ("params.action.payload.nothing", "*", False),
        ("params.action.payload.gone.further", "*", False),
        ("params.action.type", "Order.*", False),
        ("params.action.payload.lines", "one*two", True),
    ],
)
def test_patterns_look_at_texts_numbers_and_truths_at_a_path(path: str, pattern: str, fits: bool) -> None:
    payload = {"number": 42, "urgent": True, "tags": ["big", "red"], "nothing": None, "lines": "one\ntwo"}
    asked = router({"data": {path: pattern}, "agent": "weather"})
    assert (asked.route(pressed("order.cancel", payload)) != NOWHERE) is fits


def test_rules_of_agents_and_handlers_pass_over_what_they_cannot_answer() -> None:
    for where in ({"agent": "weather"}, {"handler": "ping"}):
        asked = router(where, {"queue": "chatkit.agent.weather"})
        assert asked.route(feedback_event("thr_1")) == Route(queue="chatkit.agent.weather")
        assert asked.route(create_event()) == Route(**where)


def test_handoffs_have_a_way_each_and_one_for_all_others() -> None:
    assert router().handoff_queues == {}
    assert router(handoffs={"weather": "queue"}).handoff_queues == {"weather": "chatkit.agent.weather"}
    assert router(handoffs={"*": "queue", "integration": "process"}).handoff_queues.keys() == {*AGENTS[1:], "weather"}


def test_every_agent_has_a_queue() -> None:
    asked = router()
    assert asked.queues == ("chatkit.events", *asked.wakers)
    assert [queue for queue in asked.wakers if "agent" in queue] == [f"chatkit.agent.{n}" for n in (*AGENTS, "weather")]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"agent": "wether"}, 'rules.1.agent: "wether" is no agent; did you mean weather?'),
        ({"handler": "pong"}, 'rules.1.handler: "pong" is no handler; did you mean ping?'),
        ({"queue": "background"}, 'rules.1.queue: "background" is no queue; did you mean chatkit.background?'),
        (
            {"queue": "chatkit.events"},
            'rules.1.queue: "chatkit.events" is no queue; did you mean chatkit.agent.weather?',
        ),
        (
            {"type": "ui.*", "agent": "weather"},
            'rules.1.type: "ui.*" has no answer; agent and handler are for requests that are answered',
        ),
    ],
)
def test_a_name_that_there_is_not_is_told_with_its_place_and_the_nearest_one(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        router({"queue": "chatkit.interactive"}, rule)
    assert str(caught.value).startswith(f"CHATKIT_ROUTES: {said}")


def test_an_unknown_agent_of_a_handoff_and_a_handler_that_nobody_has_added_are_told() -> None:
    with pytest.raises(SettingsError, match='CHATKIT_ROUTES: handoffs: "intgration" is no agent; did you mean integr'):
        router(handoffs={"intgration": "queue"})
    with pytest.raises(SettingsError, match="no plug-in has added any"):
        router({"handler": "ping"}, handlers=())


texts = st.text(string.ascii_letters + "*?.[]!", max_size=8)
rules = st.fixed_dictionaries(
    {"type": st.sampled_from(["*", "threads.*", "threads.create", "items.*"])},
    optional={"data": st.dictionaries(st.sampled_from(["params.input.content.0.text", "type", "params"]), texts)},
)


@given(
    st.lists(st.tuples(rules, st.sampled_from(["chatkit.interactive", "chatkit.agent.weather"])), max_size=5),
    st.text(max_size=20).filter(str.strip),
)
def test_the_same_event_always_gets_the_same_route_and_stays_as_it_was(
    chosen: list[tuple[dict[str, Any], str]], text: str
) -> None:
    given_rules = [rule | {"queue": queue} for rule, queue in chosen]
    event = create_event(text)
    before = copy.deepcopy(event.data)
    route = router(*given_rules).route(event)
    assert router(*copy.deepcopy(given_rules)).route(event) == route
    fitting = [rule["queue"] for rule in given_rules if router(rule).route(event) != NOWHERE]
    assert route == (Route(queue=fitting[0]) if fitting else NOWHERE)
    assert router(*given_rules).queue_of(event) == (route.queue or default_queue(event))
    assert event.data == before


def test_the_routes_that_the_readme_shows_and_those_of_the_example_are_right() -> None:
    readme, example = ROOT / "README.md", ROOT / "deploy" / "examples" / "weather_routes.json"
    [shown] = [block for block in re.findall(r"```json\n(.*?)```", readme.read_text(), re.DOTALL) if "rules" in block]
    for text in (shown, example.read_text()):
        routes = Settings.model_validate({"routes": text}).routes
        asked = Router(routes, agents=(*AGENTS, "weather"), handlers=["ping"])
        ping = message_event("thr_1", "/ping")
        assert asked.route(ping) == Route(handler="ping")
