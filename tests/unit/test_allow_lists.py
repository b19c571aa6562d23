"""What a deployment lets through: models, tool choices and actions."""

from typing import Any

import pytest

from schemas.errors import InvalidEventError
from schemas.events import Event
from tests.builders import create_event, request_event, user_input
from tests.unit.test_settings import environment, refusal
from workers.allow_lists import ActionRules, AllowLists
from workers.settings import Settings

__all__ = ["environment"]

HIGHLIGHT = {
    "type": "object",
    "properties": {"target": {"type": "string", "maxLength": 20}, "n": {"type": "integer"}},
    "required": ["target"],
    "additionalProperties": False,
}


def lists(**settings: Any) -> AllowLists:
    return AllowLists.of(Settings(**{"model": "gpt-4.1", "fallback_model": "gpt-4.1-mini", **settings}))


def asking(options: dict[str, Any]) -> Event:
    return request_event("threads.create", {"input": {**user_input("hi"), "inference_options": options}})


def acting(type_: str, payload: Any, request: str = "threads.custom_action") -> Event:
    return request_event(request, {"thread_id": "thr_1", "action": {"type": type_, "payload": payload}})


def pushing(name: str, data: dict[str, Any]) -> Event:
    effect = {"thread_id": "thr_1", "effect": {"name": name, "data": data}}
    return create_event().model_copy(update={"type": "chatkit.action.send", "data": effect})


def problems(allowed: AllowLists, event: Event) -> dict[str, str]:
    with pytest.raises(InvalidEventError) as caught:
        allowed.check(event)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_a_message_may_ask_for_the_models_of_the_deployment_and_for_no_other() -> None:
    for options in ({}, {"model": None}, {"model": "gpt-4.1"}, {"model": "gpt-4.1-mini"}, {"tool_choice": None}):
        lists().check(asking(options))
    field = "data.params.input.inference_options.model"
    assert problems(lists(), asking({"model": "o9-expensive"})) == {
        field: "is not allowed here; CHATKIT_ALLOWED_MODELS allows gpt-4.1, gpt-4.1-mini"
    }
    lists(allowed_models="o9-expensive, gpt-4.1").check(asking({"model": "o9-expensive"}))
    assert list(problems(lists(allowed_models="o9-expensive"), asking({"model": "gpt-4.1-mini"}))) == [field]


def test_a_message_may_ask_for_the_tools_that_are_listed() -> None:
    choice = asking({"tool_choice": {"id": "look_up_record"}})
    lists(allowed_tools="look_up_record").check(choice)
    assert problems(lists(), choice) == {
        "data.params.input.inference_options.tool_choice.id": ("is not allowed here; CHATKIT_ALLOWED_TOOLS allows none")
    }


def test_without_a_list_any_action_is_let_through() -> None:
    for event in (acting("anything", {"a": [1]}), acting("x", None), pushing("ring", {}), create_event()):
        lists().check(event)


@pytest.mark.parametrize("request_", ["threads.custom_action", "threads.sync_custom_action"])
def test_an_action_that_is_not_listed_or_does_not_fit_is_refused_by_field(request_: str) -> None:
    allowed = lists(actions={"highlight": HIGHLIGHT, "ping": {}})
    allowed.check(acting("highlight", {"target": "composer"}, request_))
    allowed.check(acting("ping", None, request_))
    at = "data.params.action"
    assert problems(allowed, acting("explode", {}, request_)) == {
        f"{at}.type": "is not allowed here; CHATKIT_ACTIONS allows highlight, ping"
    }
    assert problems(allowed, acting("highlight", {"target": 7}, request_)) == {
        f"{at}.payload.target": 'does not fit the action\'s schema (type: "string")'
    }
    assert problems(allowed, acting("highlight", None, request_)) == {
        f"{at}.payload": 'does not fit the action\'s schema (required: ["target"])'
    }


def test_an_action_from_outside_is_held_to_the_list_as_well() -> None:
    allowed = lists(actions={"highlight": HIGHLIGHT})
    allowed.check(pushing("highlight", {"target": "composer"}))
    assert list(problems(allowed, pushing("ring", {}))) == ["data.effect.name"]
    assert list(problems(allowed, pushing("highlight", {}))) == ["data.effect.data"]


def test_no_word_of_a_payload_is_repeated() -> None:
    allowed = lists(actions={"highlight": HIGHLIGHT})
    event = acting("highlight", {"target": "CANARY" * 10, "CANARY in a name": "CANARY", "n": "CANARY"})
    assert "CANARY" not in str(problems(allowed, event))


def test_a_schema_that_points_elsewhere_fetches_nothing_and_refuses() -> None:
    rules = ActionRules({"far": {"$ref": "http://127.0.0.1:9/schema.json"}})
    [problem] = rules.problems("far", {})
    assert "outside of it" in problem.message


def test_a_decision_about_an_approval_is_let_through_whatever_is_listed() -> None:
    lists(actions={}).check(acting("approval.decide", {"approval": "apr_1", "approve": True}))


def test_an_empty_list_allows_no_action() -> None:
    assert "allows none" in str(problems(lists(actions={}), acting("highlight", {})))


def test_a_schema_that_is_none_stops_the_start(environment: pytest.MonkeyPatch) -> None:  # the fixture
    line = refusal(environment, {"CHATKIT_ACTIONS": '{"highlight": {"type": "objekt"}}'})
    assert line.startswith('CHATKIT_ACTIONS: "highlight" has no JSON Schema at type: use {"highlight"')
