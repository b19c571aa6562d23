"""OpenAI's `/chatkit/sessions` on loopback: makes and cancels sessions, remembers what it was asked, fails if told."""

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class HostedChatKit:
    """The server. `status` other than 200 is what every request gets."""

    status: int = 200
    asked: list[Asked] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        hosted = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
                headers = {name.lower(): value for name, value in self.headers.items()}
                hosted.asked.append(Asked(self.path, headers, body))
                status, answer = hosted.answer(self.path, body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.status != 200:
            return self.status, {"error": {"message": "SECRET PROMPT", "code": "nope"}}
        if path == "/v1/chatkit/sessions":
            return 200, session(f"cksess_{len(self.asked)}", body["user"], body["expires_after"]["seconds"])
        id_ = path.split("/")[-2]
        if not id_.startswith("cksess_"):
            return 404, {"error": {"message": "no such session"}}
        self.cancelled.add(id_)
        return 200, session(id_, "u1", 0) | {"status": "cancelled"}


def session(id_: str, user: str, seconds: int) -> dict[str, Any]:
    """As OpenAI answers."""
    return {
        "id": id_,
        "object": "chatkit.session",
        "client_secret": f"ek_of_{id_}",
        "expires_at": int(time.time()) + seconds,
        "user": user,
        "status": "active",
        "max_requests_per_1_minute": 10,
        "rate_limits": {"max_requests_per_1_minute": 10},
        "workflow": {"id": "wf_1", "tracing": {"enabled": False}},
        "chatkit_configuration": {
            "automatic_thread_titling": {"enabled": True},
            "file_upload": {"enabled": False},
            "history": {"enabled": True},
        },
    }
