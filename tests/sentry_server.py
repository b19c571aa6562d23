"""A Sentry on loopback: takes envelopes from real processes and keeps what is in them.

with SentryServer() as sentry:
    deployment.worker(SENTRY_DSN=sentry.dsn)
    assert sentry.messages == ["dead letter: bug (KeyError)"]
"""

import json
from typing import Any

from sentry_sdk.envelope import Envelope

from tests.collector import Collector


class SentryServer(Collector):
    """Keeps events, check-ins and transactions apart; `bodies` are the envelopes."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.check_ins: list[dict[str, Any]] = []
        self.transactions: list[dict[str, Any]] = []
        self._kept = {"event": self.events, "check_in": self.check_ins, "transaction": self.transactions}

    def take(self, path: str, body: bytes) -> None:
        for item in Envelope.deserialize(body).items:
            if item.type in self._kept:
                self._kept[item.type].append(item.payload.json or json.loads(item.payload.get_bytes()))

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.port}/1"

    @property
    def messages(self) -> list[str]:
        """The messages of all events, those of log lines as their templates, in order of arrival."""
        return [event.get("message") or event.get("logentry", {}).get("message", "") for event in self.events]
