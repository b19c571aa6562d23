"""Which trace an event belongs to."""

from schemas.traces import is_traceparent, new_traceparent, trace_of, with_trace
from tests.builders import create_event

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_the_trace_of_the_publisher_stays() -> None:
    event = create_event(traceparent=GIVEN)
    assert with_trace(event, new_traceparent()) is event
    assert trace_of(event) == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_an_event_without_one_gets_one_and_stays_the_same_event() -> None:
    event = create_event()
    traced = with_trace(event, GIVEN)
    assert (traced.event_id, traced.lane, traced.traceparent) == (event.event_id, event.lane, GIVEN)
    assert GIVEN in traced.to_json()


def test_without_any_the_trace_follows_from_the_event() -> None:
    event = create_event()
    assert trace_of(event) == trace_of(event.model_copy())
    assert trace_of(event) != trace_of(create_event())
    assert is_traceparent(f"00-{trace_of(event)}-00f067aa0ba902b7-00")


def test_new_ones_are_traceparents() -> None:
    assert is_traceparent(new_traceparent())
    assert not is_traceparent("00-short-00f067aa0ba902b7-00")
