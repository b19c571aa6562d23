"""The conversation of the demo: published on the queue as an upstream service does, read from the gateway as a page."""

import json
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import click
import httpx

from schemas.records import Published
from workers.cli.command import CommandFailedError, Output
from workers.cli.frames import FrameText, Piece
from workers.publisher import Publisher

TENANT = "demo"
SOURCE = "/chatkit-workers/demo"
ACCEPT_SECONDS = 15.0
ANSWER_SECONDS = 30.0
FLOWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a user; a user's messages go to one thread."""

    user: str
    text: str
    remark: str


CONVERSATION = (
    Message("Ada", "Hello! How do you answer me?", "a plain question"),
    Message("Grace", "Where is my order 1042?", "for the service orchestrator, which looks it up with a tool"),
    Message("Ada", "Please show me a form.", "for the UI coordination agent, which shows a widget"),
)


@dataclass(slots=True)
class Told:
    """What one message brought."""

    text: FrameText = field(default_factory=FrameText)
    pieces: list[Piece] = field(default_factory=list)
    first_seconds: float | None = None
    end: dict[str, Any] | None = None


class Conversation:
    """Says messages one after another and prints the answers word by word."""

    def __init__(self, gateway_url: str, redis_url: str, service_key: str, output: Output) -> None:
        self._http = httpx.Client(base_url=gateway_url, timeout=httpx.Timeout(10, read=ANSWER_SECONDS), trust_env=False)
        self._publisher = Publisher(redis_url)
        self._service_key, self._output = service_key, output
        self._secrets: dict[str, str] = {}
        self._threads: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._publisher.close()
        self._http.close()

    def say(self, message: Message) -> str:
        """Publish one message and print its answer as it streams; the event's id.

        Raises:
            CommandFailedError: it was not answered.
        """
        self._print(f"{click.style(message.user, bold=True)}: {message.text}  {_dim(f'({message.remark})')}\n")
        secret = self._secret(message.user)
        started = time.monotonic()
        published = self._publisher.publish(self._event(message))
        self._threads.setdefault(message.user, str(published.thread_id))
        told = Told()
        for piece in self._pieces(published, secret, told):
            if told.first_seconds is None and piece.kind == "text":
                told.first_seconds = time.monotonic() - started
            told.pieces.append(piece)
            self._show(piece)
        seconds = time.monotonic() - started
        if told.end is None or told.end["state"] != "done":
            raise CommandFailedError(f"{published.id} was not answered: {told.end or 'the stream broke off'}")
        self._sum_up(message, published, told, seconds)
        return published.id

    def find_in_flower(self, flower_url: str, event_id: str) -> str:
        """The state that Flower shows for an event; it learns of it a moment later."""
        deadline = time.monotonic() + FLOWER_SECONDS
        state = "not seen yet"
        while time.monotonic() < deadline and state in ("not seen yet", "RECEIVED", "STARTED"):
            answer = httpx.get(f"{flower_url}/api/task/info/{event_id}", timeout=5, trust_env=False)
            if answer.status_code == httpx.codes.OK:
                state = str(answer.json().get("state"))
            time.sleep(0.1)
        return state

    def _event(self, message: Message) -> dict[str, Any]:
        thread = self._threads.get(message.user)
        text = {"content": [{"type": "input_text", "text": message.text}], "attachments": [], "inference_options": {}}
        params: dict[str, Any] = {"input": text} if thread is None else {"thread_id": thread, "input": text}
        request = "threads.create" if thread is None else "threads.add_user_message"
        return {
            "specversion": "1.0",
            "id": uuid.uuid4().hex,
            "source": SOURCE,
            "type": f"chatkit.{request}",
            "tenant": TENANT,
            "userid": message.user.lower(),
            "data": {"type": request, "params": params},
        }

    def _secret(self, user: str) -> str:
        """A client secret, as a page gets it from its own server."""
        if user not in self._secrets:
            answer = self._http.post(
                "/v1/sessions",
                json={"user": user.lower(), "tenant": TENANT},
                headers={"Authorization": f"Bearer {self._service_key}"},
            )
            if answer.is_error:
                raise CommandFailedError(f"no session for {user}: HTTP {answer.status_code}")
            self._secrets[user] = answer.json()["client_secret"]
        return self._secrets[user]

    def _pieces(self, published: Published, secret: str, told: Told) -> Iterator[Piece]:
        deadline = time.monotonic() + ACCEPT_SECONDS
        headers = {"Authorization": f"Bearer {secret}"}
        while True:
            with self._http.stream("GET", f"/v1/events/{published.id}/stream", headers=headers) as answer:
                if answer.status_code == httpx.codes.OK:
                    for name, data in server_sent_events(answer.iter_lines()):
                        if name == "end":
                            told.end = json.loads(data)
                        else:
                            yield from told.text.feed(data)
                    return
                # 404 until a worker has taken the event from the queue
                if answer.status_code != httpx.codes.NOT_FOUND or time.monotonic() > deadline:
                    raise CommandFailedError(f"the stream of {published.id} gives HTTP {answer.status_code}")
            time.sleep(0.02)

    def _show(self, piece: Piece) -> None:
        match piece.kind:
            case "text":
                self._print(piece.text)
            case "handoff":
                self._print(click.style(f"  ⇢ {piece.text}\n", fg="magenta"))
            case "error" | "removed":
                self._print(click.style(f"\n  ! {piece.text}\n", fg="red"))
            case "progress" | "shown":
                self._print(click.style(f"  ⚙ {piece.text}\n", fg="cyan"))

    def _sum_up(self, message: Message, published: Published, told: Told, seconds: float) -> None:
        first = f"first word after {told.first_seconds:.2f} s, " if told.first_seconds is not None else ""
        self._print(_dim(f"\n  {published.id}: {first}all of it after {seconds:.2f} s\n\n"))
        if self._output.as_json:
            record = {
                "id": published.id,
                "thread_id": published.thread_id,
                "user": message.user,
                "question": message.text,
                "answer": told.text.answer,
                "around": [f"{piece.kind}: {piece.text}" for piece in told.pieces if piece.kind != "text"],
                "first_word_seconds": told.first_seconds,
                "seconds": seconds,
                "state": told.end and told.end["state"],
            }
            self._output.record(record, "")

    def _print(self, text: str) -> None:
        if not self._output.as_json:
            click.echo(text, nl=False)
            sys.stdout.flush()


def server_sent_events(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Name and data of each event of a stream; comments are left out."""
    name, data = "message", ""
    for line in lines:
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data += line.removeprefix("data:").removeprefix(" ")
        elif not line and data:
            yield name, data
            name, data = "message", ""


def _dim(text: str) -> str:
    return click.style(text, dim=True)
