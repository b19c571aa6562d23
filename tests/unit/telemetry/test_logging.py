import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from workers.errors import LeaseLostError
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
