"""What Flower's rows say."""

from types import SimpleNamespace

import pytest

from workers.telemetry.flower import address_of, asks_who_is_there, format_task, lane_shown, outcome_shown


@pytest.mark.parametrize(
    ("kwargs", "shown"),
    [
        ("{'lane': 'acme/thr_1', 'event_id': 'evt_1'}", "acme / thr_1"),
        ("{'lane': 'acme/session:u1', 'event_id': 'evt_1'}", "acme / session:u1"),
        ("{'other': 1}", "{'other': 1}"),
        ("<not python>", "<not python>"),
        (None, ""),
    ],
)
def test_a_lane_is_shown_as_tenant_and_thread_and_anything_else_as_it_is(kwargs: str | None, shown: str) -> None:
    assert lane_shown(kwargs) == shown


def test_the_outcome_is_that_of_the_last_run() -> None:
    waits = "transient, again in 3.0 s (attempt 1)"
    assert outcome_shown("SUCCESS", "'done (attempt 2)'", waits) == "done (attempt 2)"
    assert outcome_shown("RETRY", None, waits) == waits
    assert (
        outcome_shown("FAILURE", None, "DeadLetterFailure('loop: LoopError (attempt 1)')")
        == "loop: LoopError (attempt 1)"
    )
    assert outcome_shown("REVOKED", None, waits) == "cancelled"
    assert outcome_shown("STARTED", None, None) == ""


def test_what_a_worker_gave_back_in_a_hurry_is_shown_as_released_not_as_cancelled() -> None:
    task = SimpleNamespace(state="CANCELLED", kwargs="", result=None, exception=None)
    shown = format_task(task)
    assert (shown.state, shown.result) == ("RETRY", "given back: its worker stopped")


@pytest.mark.parametrize(
    ("options", "environ", "asks"),
    [
        ([], {}, False),
        (["--basic_auth=a:b"], {}, True),
        (["--basic-auth=a:b"], {}, True),
        ([], {"FLOWER_BASIC_AUTH": "a:b"}, True),
        ([], {"FLOWER_BASIC_AUTH": ""}, False),
        (["--auth=.*@example.com"], {}, True),
        (["--auth_provider=x"], {}, False),
    ],
)
def test_flower_asks_who_is_there_when_it_is_told_to(options: list[str], environ: dict[str, str], asks: bool) -> None:
    assert asks_who_is_there(options, environ) is asks


def test_flowers_own_address_wins() -> None:
    assert address_of(["--address=0.0.0.0"], "127.0.0.1") == "0.0.0.0"
    assert address_of(["--max_tasks=1"], "127.0.0.1") == "127.0.0.1"
