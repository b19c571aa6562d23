"""A right event: what it says, where it belongs, how it goes on."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas.chatkit import STREAMING_REQUESTS, TURN_REQUESTS, request_adapter, request_types
from schemas.checks import SESSION_LANE
from schemas.events import Event, event_id, event_types, parse_event, thread_id_of
from schemas.examples import THREAD_ID, example_event
from schemas.ui import UI_EVENTS
from tests.builders import NOW, create_event, feedback_event, message_event

DOM_EVENTS = {
    "ready", "error", "effect", "deeplink", "log", "response.start", "response.end", "history.open", "history.close",
    "thread.change", "thread.load.start", "thread.load.end", "tool.change",
}  # fmt: skip


def example(type_: str, **attributes: Any) -> dict[str, Any]:
    return {**example_event(type_), **attributes}


@pytest.mark.parametrize("type_", event_types())
def test_an_example_of_every_type_is_taken_and_goes_round(type_: str) -> None:
    event = parse_event(example_event(type_))
    assert event.type == type_
    assert parse_event(event.to_json()) == event
    assert parse_event(event.to_json().encode()).to_json() == event.to_json()


def test_every_request_of_the_official_library_is_an_event_type() -> None:
    assert {f"chatkit.{name}" for name in request_types()} <= set(event_types())
    assert len(request_types()) == 16
    assert set(request_types()) >= TURN_REQUESTS >= STREAMING_REQUESTS


@pytest.mark.parametrize("name", request_types())
def test_data_of_a_request_is_what_the_official_types_take(name: str) -> None:
    event = parse_event(example_event(f"chatkit.{name}"))
    assert request_adapter().validate_python(event.data).type == name


def test_the_dom_events_are_the_thirteen_of_the_chat_element() -> None:
    assert set(UI_EVENTS) == DOM_EVENTS
    assert {type_ for type_ in event_types() if type_.startswith("chatkit.ui.")} == {
        f"chatkit.ui.{n}" for n in DOM_EVENTS
    }


def test_the_id_inside_the_system_never_changes() -> None:
    # the digests are written out: an accidental change would make every stored event a new one
    assert event_id("/shop/web", "abc-123") == "evt_76m4vt4du2ljps6y5jso3rdcau"
    assert event_id("/shop", "é") == "evt_ihyzjnx3btmuikifmfyt7gtz5m"
    assert thread_id_of("evt_76m4vt4du2ljps6y5jso3rdcau") == "thr_76m4vt4du2ljps6y5jso3rdcau"


def test_the_id_depends_on_source_and_id_alone() -> None:
    event = feedback_event("thr_1", id="a")
    again = feedback_event("thr_2", id="a", tenant="acme", time="2026-01-01T00:00:00Z")
    assert event.event_id == again.event_id
    assert event.event_id != feedback_event("thr_1", id="a", source="/other").event_id


def test_a_thread_that_is_created_and_its_next_message_share_a_lane() -> None:
    create = create_event(tenant="acme")
    assert create.thread_id is not None
    assert create.lane == message_event(create.thread_id, tenant="acme").lane == f"acme/{create.thread_id}"


def test_every_request_of_a_thread_shares_its_lane_and_others_stand_with_the_user() -> None:
    lanes = {type_: parse_event(example_event(type_)).lane for type_ in event_types()}
    own = {"chatkit.threads.create", "chatkit.threads.list"}
    in_thread = {t for t in lanes if t.startswith(("chatkit.threads.", "chatkit.items."))} - own
    assert {lanes[type_] for type_ in in_thread | {"chatkit.action.send"}} == {f"acme/{THREAD_ID}"}
    assert lanes["chatkit.threads.list"] == lanes["chatkit.attachments.create"] == "acme/session:u1"


def test_page_and_session_events_stand_in_the_lane_of_their_session_else_of_their_user() -> None:
    assert parse_event(example("chatkit.ui.ready")).lane == "acme/session:ses_1"
    assert parse_event(example("chatkit.ui.response.start")).lane == "acme/session:u1"
    assert parse_event(example("chatkit.session.end")).lane == "acme/session:ses_1"
    assert parse_event(example("chatkit.session.start", tenant=None)).lane == "default/session:u1"


def test_no_thread_can_stand_in_the_lane_of_a_user() -> None:
    threads = [parse_event(example_event(type_)).thread_id for type_ in event_types()]
    assert not any((thread or "").startswith(SESSION_LANE) for thread in threads)


def test_what_may_call_a_model_needs_a_turn() -> None:
    needing = {type_ for type_ in event_types() if parse_event(example_event(type_)).needs_turn}
    assert needing == {f"chatkit.{name}" for name in TURN_REQUESTS}


def test_an_attribute_that_is_null_was_not_given() -> None:
    event = parse_event(example("chatkit.ui.ready", tenant=None, subject=None, partitionkey=None))
    assert event.tenant == "default"
    assert "partitionkey" not in event.to_json()
    assert "subject" not in event.to_json()


def test_a_page_event_may_lack_data() -> None:
    event = parse_event({k: v for k, v in example("chatkit.ui.ready").items() if k != "data"})
    assert event.data == {}


def test_extensions_pass_through_unread() -> None:
    extensions = {"partitionkey": "p", "sequence": "17", "lane": "x", "hops": 2, "sampled": True}
    event = parse_event(example("chatkit.items.feedback", **extensions))
    assert event.lane == f"acme/{THREAD_ID}"
    assert event.model_extra == extensions
    assert parse_event(event.to_json()).model_extra == extensions


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON ;charset=utf-8"]
)
def test_json_is_taken_with_parameters_and_without(content_type: str) -> None:
    event = parse_event(example("chatkit.items.feedback", datacontenttype=content_type))
    assert event.datacontenttype == content_type


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T12:00:00Z", NOW),
        ("2026-11-23t12:00:00z", NOW),
        ("2026-11-23T14:00:00+02:00", NOW),
        ("2026-11-23T12:00:00.123456789Z", NOW + timedelta(microseconds=123456)),  # as Go writes it
    ],
)
def test_times_are_rfc_3339(text: str, moment: datetime) -> None:
    assert parse_event(example("chatkit.ui.ready", time=text)).time == moment


def test_a_decoded_object_may_hold_datetimes() -> None:
    assert parse_event(example("chatkit.ui.ready", time=NOW, expirytime=NOW)).expirytime == NOW


def test_a_changed_copy_has_the_lane_of_its_new_owner() -> None:
    event = feedback_event("thr_1", tenant="acme")
    assert event.lane == "acme/thr_1"
    assert event.model_copy(update={"tenant": "other"}).lane == "other/thr_1"


def test_the_subject_may_name_the_thread() -> None:
    assert feedback_event("thr_1", subject="thr_1").subject == "thr_1"


def test_ids_and_lane_are_no_attributes_of_the_json() -> None:
    event = feedback_event("thr_1")
    assert event.lane
    assert event.event_id
    assert set(Event.model_validate_json(event.to_json()).model_extra or {}) == set()
