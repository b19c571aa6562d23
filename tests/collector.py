"""A collector on loopback, of whatever real processes send it by POST."""

import gzip
import threading
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, Self


class Collector(ABC):
    """Runs in a thread of its own."""

    content_type: ClassVar[str] = "application/json"
    answer: ClassVar[bytes] = b"{}"

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        """All that was sent, as it came, but for gzip."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name that http.server looks for
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.bodies.append(body)
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("content-type", collector.content_type)
                self.send_header("content-length", str(len(collector.answer)))
                self.end_headers()
                self.wfile.write(collector.answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name=type(self).__name__, daemon=True)

    @abstractmethod
    def take(self, path: str, body: bytes) -> None:
        """Keep what is in a body."""

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
