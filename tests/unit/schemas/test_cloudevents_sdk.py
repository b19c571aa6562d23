"""The official CloudEvents SDK reads what we write and writes what we read, in both of its modes."""

import json
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from schemas.bindings import is_binary, parse_batch, parse_binary
from schemas.errors import InvalidEventError
from schemas.events import Event, event_types, parse_event
from schemas.examples import example_event

EXTENSIONS = {"partitionkey": "p-1", "sequence": "17", "source": "/shop/café %", "expirytime": "2999-01-01T00:00:00Z"}


def official(event: Event) -> CloudEvent:
    """Our JSON, read by the SDK."""
    read = JSONFormat().read(CloudEvent, event.to_json())
    assert isinstance(read, CloudEvent)
    return read


def ours(type_: str) -> Event:
    return parse_event({**example_event(type_), **EXTENSIONS})


@pytest.mark.parametrize("type_", event_types())
def test_the_sdk_reads_what_we_write(type_: str) -> None:
    event = ours(type_)
    read = official(event)
    assert (read.get_id(), read.get_source(), read.get_type(), read.get_time()) == (
        event.id,
        event.source,
        event.type,
        event.time,
    )
    assert (read.get_data() or {}) == event.data
    assert {name: read.get_extension(name) for name in ("partitionkey", "sequence", "userid", "tenant")} == {
        "partitionkey": "p-1",
        "sequence": "17",
        "userid": "u1",
        "tenant": "acme",
    }


@pytest.mark.parametrize("type_", event_types())
def test_structured_mode_goes_round_through_the_sdk(type_: str) -> None:
    event = ours(type_)
    message = http.to_structured_event(official(event))
    assert message.headers == {"content-type": "application/cloudevents+json"}
    assert not is_binary(message.headers)
    assert parse_event(message.body) == event


@pytest.mark.parametrize("type_", event_types())
def test_binary_mode_goes_round_through_the_sdk(type_: str) -> None:
    event = ours(type_)
    message = http.to_binary_event(official(event))
    assert is_binary(message.headers)
    assert parse_binary(message.headers, message.body) == event
    assert http.from_binary_event(message).get_data() == (event.data or None)


def test_an_event_that_the_sdk_made_is_taken_in_both_modes() -> None:
    attributes: dict[str, Any] = {
        "type": "chatkit.items.feedback",
        "source": "/shop/web",
        "userid": "u1",
        "datacontenttype": "application/json",
    }
    made = CloudEvent(attributes, example_event("chatkit.items.feedback")["data"])  # id and time are the SDK's
    structured, binary = http.to_structured_event(made), http.to_binary_event(made)
    event = parse_event(structured.body)
    assert event == parse_binary(binary.headers, binary.body)
    assert (event.id, event.time) == (made.get_id(), made.get_time())


def test_a_batch_of_events_that_the_sdk_wrote_is_taken() -> None:
    # the SDK has no batch mode of its own: a batch is a JSON list of structured events
    events = [ours(type_) for type_ in event_types()]
    bodies = [json.loads(http.to_structured_event(official(event)).body) for event in events]
    assert parse_batch(json.dumps(bodies).encode(), max_bytes=1_000_000) == events


def test_binary_data_of_the_sdk_is_refused_with_a_remedy() -> None:
    made = CloudEvent({"type": "chatkit.items.feedback", "source": "/s", "userid": "u1"}, b"\x00\x01")
    with pytest.raises(InvalidEventError, match="data_base64: is not taken; give the data as a JSON object"):
        parse_event(http.to_structured_event(made).body)
