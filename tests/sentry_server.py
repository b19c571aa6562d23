"""A Sentry on loopback: takes envelopes from real processes and keeps what is in them.

with SentryServer() as sentry:
    deployment.worker(SENTRY_DSN=sentry.dsn)
    assert sentry.messages == ["dead letter: bug (KeyError)"]
"""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from sentry_sdk.envelope import Envelope


class SentryServer:
    """Runs in a thread of its own."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.check_ins: list[dict[str, Any]] = []
        self.transactions: list[dict[str, Any]] = []
        self.envelopes: list[bytes] = []
        """All that was sent, as it came."""
        envelopes = self.envelopes
        kept = {"event": self.events, "check_in": self.check_ins, "transaction": self.transactions}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name that http.server looks for
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                envelopes.append(body)
                for item in Envelope.deserialize(body).items:
                    if item.type in kept:
                        kept[item.type].append(item.payload.json or json.loads(item.payload.get_bytes()))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="sentry", daemon=True)

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self._server.server_port}/1"

    @property
    def messages(self) -> list[str]:
        """The messages of all events, those of log lines as their templates, in order of arrival."""
        return [event.get("message") or event.get("logentry", {}).get("message", "") for event in self.events]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
