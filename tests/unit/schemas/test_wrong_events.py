"""A wrong event: one error that names each wrong field and what to write instead, and never the input."""

import json
from typing import Any

import pytest

from schemas.errors import EventTooLargeError, InvalidEventError
from schemas.events import MAX_EVENT_BYTES, parse_event
from schemas.examples import example_event

SECRET = "sk-canary-5f1e"


def refused(raw: Any, **bounds: int) -> dict[str, str]:
    """Field -> message of the one error."""
    with pytest.raises(InvalidEventError) as caught:
        parse_event(raw, **bounds)
    assert SECRET not in str(caught.value)
    return {problem.field: problem.message for problem in caught.value.problems}


def wrong(type_: str = "chatkit.items.feedback", *without: str, **changes: Any) -> dict[str, str]:
    event = {**example_event(type_), **changes}
    return refused({name: value for name, value in event.items() if name not in without})


def with_params(**params: Any) -> dict[str, Any]:
    data = example_event("chatkit.items.feedback")["data"]
    return {**data, "params": {**data["params"], **params}}


def test_an_empty_object_is_told_everything_that_is_missing() -> None:
    problems = refused({})
    assert set(problems) == {"specversion", "id", "source", "type", "userid", "data"}
    assert problems["userid"] == "is missing; name the user the event speaks for"


def test_wrong_fields_of_envelope_extensions_and_data_are_named_together() -> None:
    problems = wrong(
        "chatkit.items.feedback",
        "userid",
        id=7,
        time="yesterday",
        ratio=0.5,
        data=with_params(item_ids=[1], kind="meh"),
    )
    assert problems == {
        "userid": "is missing; name the user the event speaks for",
        "id": "must be text",
        "time": "must be an RFC 3339 time with its zone, say 2026-11-23T12:00:00Z",
        "ratio": "must be text, a whole number or a boolean; what is more belongs into `data`",
        "data.params.item_ids.0": "must be text",
        "data.params.kind": "must be 'positive' or 'negative'",
    }


def test_subject_and_thread_id_are_checked_whatever_else_is_wrong() -> None:
    assert set(wrong(subject="thr_other", userid=7, data=with_params(kind="meh"))) == {
        "subject",
        "userid",
        "data.params.kind",
    }
    problems = wrong(time="yesterday", data=with_params(thread_id="session:x", kind="meh"))
    assert set(problems) == {"time", "data.params.kind", "data.params.thread_id"}
    assert problems["data.params.thread_id"].startswith("must not begin with")
    assert set(wrong("chatkit.threads.create", "userid", subject="thr_other")) == {"subject", "userid"}
    action = {"thread_id": "", "message": "hi"}
    assert wrong("chatkit.action.send", data=action) == {"data.thread_id": "must not be empty"}  # and nothing twice


@pytest.mark.parametrize(
    ("type_", "changes", "field"),
    [
        ("chatkit.threads.create", {"id": 7}, "id"),
        ("chatkit.threads.create", {"source": ""}, "source"),
        ("chatkit.items.feedback", {"data": with_params(thread_id=7)}, "data.params.thread_id"),
        ("chatkit.items.feedback", {"data": with_params(thread_id="a/b")}, "data.params.thread_id"),
        ("chatkit.items.feedback", {"data": {"type": "items.feedback", "params": "none"}}, "data.params"),
        ("chatkit.items.feedback", {"data": "none"}, "data"),
        ("chatkit.items.feedback", {"type": "chatkit.items.feedbak"}, "type"),
    ],
)
def test_a_subject_is_not_judged_by_what_cannot_be_read(type_: str, changes: dict[str, Any], field: str) -> None:
    assert set(wrong(type_, subject="thr_other", **changes)) == {field}


@pytest.mark.parametrize(
    ("type_", "meant"),
    [
        ("threads.create", "chatkit.threads.create"),
        ("chatkit.thread.create", "chatkit.threads.create"),
        ("chatkit.items.feedbak", "chatkit.items.feedback"),
        ("ChatKit.Threads.Create", "chatkit.threads.create"),
        ("chatkit.ui.response.begin", "chatkit.ui.response."),
    ],
)
def test_a_near_miss_of_a_type_gets_a_suggestion(type_: str, meant: str) -> None:
    message = wrong(type=type_)["type"]
    assert message.startswith("is not known; did you mean ")
    assert meant in message


def test_a_type_from_elsewhere_is_told_where_the_types_are_listed() -> None:
    assert wrong(type=f"com.example.{SECRET}") == {"type": "is not known; `chatkit-workers schema` lists what is"}


def test_an_unknown_type_without_data_is_told_both() -> None:
    assert set(wrong("chatkit.items.feedback", "data", type="nothing.of.ours")) == {"type", "data"}


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"specversion": "0.3"}, "specversion", "must be '1.0'"),
        ({"id": ""}, "id", "must not be empty"),
        ({"id": "x" * 513}, "id", "must be at most 512 characters"),
        ({"source": "a\nb"}, "source", "must not hold control characters"),
        ({"id": "a\x85b"}, "id", "must not hold control characters"),
        ({"time": "2026-11-23T12:00:00"}, "time", "must be an RFC 3339 time"),
        ({"time": "2026-11-23 12:00:00Z"}, "time", "must be an RFC 3339 time"),
        ({"time": "2026-13-01T00:00:00Z"}, "time", "must be an RFC 3339 time"),
        ({"expirytime": 1_763_899_200}, "expirytime", "must be an RFC 3339 time"),
        ({"datacontenttype": "text/plain"}, "datacontenttype", "must be application/json"),
        ({"data": [SECRET]}, "data", "must be a JSON object"),
        ({"data": SECRET}, "data", "must be a JSON object"),
        ({"data_base64": "e30="}, "data_base64", "is not taken; give the data as a JSON object in `data`"),
        ({"traceparent": SECRET}, "traceparent", "must be a W3C traceparent"),
        ({"priority": "high"}, "priority", "must be 'interactive' or 'background'"),
        ({"subject": "thr_other"}, "subject", "must be the thread id that data names"),
        ({"userId": SECRET}, "userId", "is no CloudEvents attribute name; did you mean `userid`?"),
        ({"expiry_time": SECRET}, "expiry_time", "is no CloudEvents attribute name; did you mean `expirytime`?"),
        ({"Ünï " + SECRET: 1}, "(unreadable name)", "is no CloudEvents attribute name"),
        ({"note": {"text": SECRET}}, "note", "must be text, a whole number or a boolean"),
        ({"note": f"{SECRET}\x00"}, "note", "must not hold control characters"),
        ({"hops": 2**31}, "hops", "is too large for a CloudEvents integer"),
    ],
)
def test_each_common_mistake_has_its_remedy(changes: dict[str, Any], field: str, message: str) -> None:
    problems = wrong(**changes)
    assert set(problems) == {field}
    assert problems[field].startswith(message)


@pytest.mark.parametrize(
    "name", ["a b", "a/b", "a{b}", "a\tb", "a\x00b", "a\u202eb", "a\u200bb", "a\ufeffb", "x" * 129]
)
@pytest.mark.parametrize("field", ["tenant", "userid"])
def test_what_is_part_of_a_key_holds_nothing_that_means_or_hides_something(field: str, name: str) -> None:
    assert set(refused({**example_event("chatkit.items.feedback"), field: name})) == {field}
    assert set(wrong(data=with_params(thread_id=name))) == {"data.params.thread_id"}
    assert set(wrong("chatkit.ui.ready", data={"session_id": name})) == {"data.session_id"}
    assert set(wrong("chatkit.action.send", data={"thread_id": name, "message": "hi"})) == {"data.thread_id"}


def test_a_thread_cannot_be_named_into_the_lane_of_a_user() -> None:
    assert wrong(data=with_params(thread_id="session:u2")) == {
        "data.params.thread_id": "must not begin with 'session:'"
    }


def test_data_of_another_request_is_refused() -> None:
    assert wrong("chatkit.items.feedback", data=example_event("chatkit.threads.create")["data"]) == {
        "data.type": "must be 'items.feedback'",
        "data.params.thread_id": "is missing; name the thread",
        "data.params.item_ids": "is missing",
        "data.params.kind": "is missing",
    }


def test_data_without_its_type_is_refused() -> None:
    assert wrong(data={"params": with_params()["params"]}) == {
        "data.type": "is missing; write 'items.feedback', as the event's type says"
    }


def test_a_wrong_part_of_a_message_is_found_where_it_stands() -> None:
    content = [{"type": "input_text"}, {"type": SECRET, "text": SECRET}, 3]
    message: dict[str, Any] = {"content": content, "attachments": None, "inference_options": {}}
    problems = wrong("chatkit.threads.create", data={"type": "threads.create", "params": {"input": message}})
    assert problems == {
        "data.params.input.content.0.text": "is missing",
        "data.params.input.content.1": "has an unknown 'type'; known: 'input_text', 'input_tag'",
        "data.params.input.content.2": "must be a JSON object",
        "data.params.input.attachments": "must be a list",
    }


@pytest.mark.parametrize(
    "data", [{"thread_id": "thr_1"}, {"thread_id": "thr_1", "effect": {"name": "x"}, "message": "y"}]
)
def test_a_push_is_an_effect_or_a_message(data: dict[str, Any]) -> None:
    assert wrong("chatkit.action.send", data=data) == {"data": "give either effect or message"}


def test_a_thousand_wrong_fields_make_one_readable_message() -> None:
    problems = refused({**example_event("chatkit.items.feedback"), **{f"field{number}": 0.5 for number in range(1000)}})
    assert len(problems) == 21
    assert problems["event"] == "has 980 more wrong fields"


@pytest.mark.parametrize("raw", [[], "x", 3, None, True])
def test_json_that_is_no_object_is_refused(raw: Any) -> None:
    assert refused(json.dumps(raw)) == {"event": "must be a JSON object with the CloudEvents attributes"}


def test_five_megabytes_are_refused_before_they_are_parsed() -> None:
    with pytest.raises(EventTooLargeError) as caught:
        parse_event(b"[" * (5 * 1024 * 1024))  # parsing would find that it is no JSON
    assert caught.value.size_bytes == 5 * 1024 * 1024
    assert caught.value.limit_bytes == MAX_EVENT_BYTES
    assert str(caught.value) == "event: is 5242880 bytes, at most 1048576 are taken"


def test_the_bound_counts_bytes_not_characters_and_holds_for_decoded_objects() -> None:
    event = example_event("chatkit.threads.update")
    event["data"]["params"]["title"] = "é" * 600
    assert refused(json.dumps(event, ensure_ascii=False), max_bytes=1_200)["event"].startswith("is 1")
    assert refused(event, max_bytes=1_200)["event"].startswith("is 1")
    assert parse_event(event, max_bytes=2_000).data == event["data"]
