"""The request context: ids, failures, usage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.chat.context import ID_PREFIXES, TurnContext
from workers.chat.store import MAX_PAGE, bounded
from workers.errors import TransientError
from workers.lanes.records import Owner


def context(event_id: str = "evt_1", tenant: str = "acme", user: str = "ada") -> TurnContext:
    return TurnContext(Owner(tenant, user), event_id)


def test_the_same_event_makes_the_same_ids_in_the_same_order() -> None:
    first, again = context(), context()
    assert [first.next_id("message") for _ in range(3)] == [again.next_id("message") for _ in range(3)]


def test_ids_of_different_events_tenants_kinds_and_places_differ() -> None:
    made = {context().next_id(kind) for kind in ID_PREFIXES}
    made |= {context(event_id="evt_2").next_id("message"), context(tenant="other").next_id("message")}
    twice = context()
    made |= {twice.next_id("message"), twice.next_id("message")}
    assert len(made) == len(ID_PREFIXES) + 3


def test_kinds_are_numbered_apart() -> None:
    mixed = context()
    mixed.next_id("workflow")
    assert mixed.next_id("message") == context().next_id("message")


def test_the_first_failure_stays() -> None:
    turn = context()
    turn.raise_failure()
    turn.fail(TransientError("first"))
    turn.fail(KeyError("second"))
    with pytest.raises(TransientError, match="first"):
        turn.raise_failure()


def test_usage_adds_up() -> None:
    turn = context()
    turn.add_usage(requests=1, input_tokens=10, output_tokens=5)
    turn.add_usage(requests=2, input_tokens=1, output_tokens=1)
    assert (turn.use.requests, turn.use.input_tokens, turn.use.output_tokens) == (3, 11, 6)


@given(st.integers())
def test_a_page_has_a_size_that_can_be_served(limit: int) -> None:
    assert 1 <= bounded(limit) <= MAX_PAGE
