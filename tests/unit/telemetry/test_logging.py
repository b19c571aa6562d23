import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from workers.errors import LeaseLostError
from workers.telemetry.context import no_context, run_context
from workers.telemetry.logging import configure_logging


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("INFO", as_json=True, stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    return dict(json.loads(line))


def test_a_line_has_the_event_name_and_the_fields(written: io.StringIO) -> None:
    logging.getLogger("workers.lanes").info("lane_woken", extra={"lane": "acme/thr_1", "attempt": 2})
    line = only_line(written)
    assert (line["event"], line["lane"], line["attempt"]) == ("lane_woken", "acme/thr_1", 2)
    assert (line["level"], line["logger"]) == ("info", "workers.lanes")
    assert line["timestamp"].endswith("Z")


def test_fields_that_hold_payloads_are_hidden(written: io.StringIO) -> None:
    logging.getLogger("x").warning("refused", extra={"body": "my secret question", "event_id": "evt_1"})
    assert "secret" not in written.getvalue()
    assert only_line(written)["event_id"] == "evt_1"


def test_a_foreign_exception_keeps_its_class_and_place_but_not_its_text(written: io.StringIO) -> None:
    try:
        raise ValueError("the prompt was: my secret question")
    except ValueError:
        logging.getLogger("x").exception("turn_failed")
    line = only_line(written)
    assert line["error"] == "ValueError"
    assert "test_logging.py" in line["error_at"][-1]
    assert "secret" not in written.getvalue()


def test_an_error_of_ours_keeps_its_text(written: io.StringIO) -> None:
    try:
        raise LeaseLostError("lease of acme/thr_1 is at epoch 4")
    except LeaseLostError:
        logging.getLogger("x").exception("turn_lost")
    assert only_line(written)["error_message"] == "lease of acme/thr_1 is at epoch 4"


def test_information_of_chatty_libraries_is_left_out(written: io.StringIO) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET http://x/?key=secret")
    assert written.getvalue() == ""


def test_lines_for_a_person_are_not_json() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        configure_logging("INFO", as_json=False, stream=stream)
        logging.getLogger("x").info("lane_woken", extra={"lane": "acme/thr_1"})
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert "lane_woken" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def in_a_run(event_id: str = "evt_1") -> Any:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    return run_context(
        event_id=event_id, type_="chatkit.threads.create", lane="acme/thr_1", attempt=2, trace=trace, traceparent=None
    )


def test_every_line_of_a_run_says_which_one_and_none_after_it(written: io.StringIO) -> None:
    with in_a_run():
        logging.getLogger("a.library").warning("odd")
        logging.getLogger("workers").warning("other", extra={"event_id": "evt_9"})
    logging.getLogger("workers").warning("idle")
    inside, other, after = map(json.loads, written.getvalue().splitlines())
    assert (inside["event_id"], inside["lane"], inside["attempt"]) == ("evt_1", "acme/thr_1", 2)
    assert inside["trace"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert other["event_id"] == "evt_9"  # what the line itself says counts
    assert not after.keys() & {"event_id", "lane", "attempt", "trace"}


async def test_what_a_run_has_started_for_others_is_not_of_it(written: io.StringIO) -> None:
    async def outlive() -> None:
        logging.getLogger("workers").warning("later")

    with in_a_run():
        task = asyncio.create_task(outlive(), context=no_context())
    await task
    assert "event_id" not in only_line(written)
