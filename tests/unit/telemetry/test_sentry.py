import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from workers.errors import LeaseLostError
from workers.telemetry.sentry import check_in, init_sentry, of_sentry, scrub_transaction, started_trace, traced

PROMPT = "my secret question"


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.sent += [item.payload.json for item in envelope.items]

    @property
    def text(self) -> str:
        return json.dumps(self.sent, default=str)


@pytest.fixture
def sentry() -> Iterator[Kept]:
    assert init_sentry("http://key@127.0.0.1:9/1", role="worker")
    kept, client = Kept(), sentry_sdk.get_client()
    client.transport = kept
    yield kept
    client.close()
    sentry_sdk.get_global_scope().set_client(None)  # off again for the other tests, whichever comes next


def test_it_stays_off_without_a_dsn() -> None:
    assert init_sentry(None, role="worker") is False
    assert init_sentry("", role="worker") is False
    assert not sentry_sdk.get_client().is_active()


def test_an_exception_is_sent_without_its_text_and_without_locals(sentry: Kept) -> None:
    def answer(prompt: str) -> None:
        raise ValueError(f"cannot answer {prompt}")

    try:
        answer(PROMPT)
    except ValueError:
        sentry_sdk.capture_exception()
    (event,) = sentry.sent
    assert event["exception"]["values"][0]["type"] == "ValueError"
    assert PROMPT not in sentry.text


def test_the_text_of_an_error_of_ours_is_sent(sentry: Kept) -> None:
    try:
        raise LeaseLostError("lease of acme/thr_1 is at epoch 4")
    except LeaseLostError:
        sentry_sdk.capture_exception()
    assert "lease of acme/thr_1" in sentry.text


def test_a_log_line_is_sent_without_its_arguments(sentry: Kept) -> None:
    logging.getLogger("some.library").error("failed on %s", PROMPT)
    (event,) = sentry.sent
    assert event["logentry"]["message"] == "failed on %s"
    assert PROMPT not in sentry.text


def test_breadcrumbs_keep_what_happened_not_with_what(sentry: Kept) -> None:
    sentry_sdk.add_breadcrumb(category="httplib", data={"method": "POST", "url": f"http://x/?q={PROMPT}"})
    logging.getLogger("some.library").warning("refused %s", PROMPT)
    sentry_sdk.capture_message("turn_failed")
    assert PROMPT not in sentry.text
    assert '"method": "POST"' in sentry.text
    assert '"refused %s"' in sentry.text


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def test_what_fails_in_a_run_is_in_the_trace_of_its_event(sentry: Kept) -> None:
    with traced("chatkit.threads.create", "evt_1", 2, TRACEPARENT):
        sentry_sdk.capture_message("inside")
    sentry_sdk.capture_message("after")
    inside, after = sentry.sent
    assert inside["contexts"]["trace"]["trace_id"] == TRACE
    assert (inside["tags"]["event_type"], inside["tags"]["attempt"]) == ("chatkit.threads.create", "2")
    assert inside["extra"]["event_id"] == "evt_1"
    assert after["contexts"]["trace"]["trace_id"] != TRACE
    assert "attempt" not in after["tags"]


def test_a_trace_that_begins_here_is_passed_on_as_w3c_has_it(sentry: Kept) -> None:
    traceparent = str(started_trace())
    sentry_sdk.capture_message("here")
    [event] = sentry.sent
    trace = event["contexts"]["trace"]
    assert traceparent == f"00-{trace['trace_id']}-{trace['span_id']}-00"
    assert of_sentry(traceparent) == f"{trace['trace_id']}-{trace['span_id']}"
    assert of_sentry(TRACEPARENT) == f"{TRACE}-00f067aa0ba902b7-1"


def test_without_sentry_a_run_is_just_run() -> None:
    with traced("chatkit.threads.create", "evt_1", 1, TRACEPARENT):
        assert started_trace() is None


def test_a_check_in_makes_its_monitor(sentry: Kept) -> None:
    check_in("sweeper", every_minutes=1)
    [sent] = sentry.sent
    assert (sent["monitor_slug"], sent["status"], sent["environment"]) == ("sweeper", "ok", "production")
    assert sent["monitor_config"]["schedule"] == {"type": "interval", "value": 1, "unit": "minute"}


def test_a_transaction_keeps_what_took_how_long_and_not_with_what() -> None:
    span = {"op": "db", "description": f"SELECT '{PROMPT}'", "data": {"q": PROMPT}, "start_timestamp": 1.0}
    sent = scrub_transaction(
        {"type": "transaction", "spans": [span], "contexts": {"trace": {"data": {"url": PROMPT}, "trace_id": TRACE}}}
    )
    assert sent["spans"] == [{"op": "db", "start_timestamp": 1.0}]
    assert PROMPT not in str(sent)
