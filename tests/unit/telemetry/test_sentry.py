import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from workers.errors import LeaseLostError
from workers.telemetry.sentry import init_sentry

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
