"""Publishers of a run: over HTTP and over the queue. Each goes on until it has an answer, and records every one."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from schemas.events import event_id, thread_id_of
from workers.chaos.clients import SERVICE
from workers.chaos.records import CancelAnswer, Letter, Publication, Recorder, Redrive, Told
from workers.chaos.settings import TENANT
from workers.chaos.story import CaseText
from workers.errors import PublishError
from workers.publisher import Publisher

SOURCE = "/chaos"
ANSWER_SECONDS = 4.0
PATIENT_SECONDS = 20.0
"""For what is asked once: a gateway may have to find out first that its connections are dead."""

LOOKS = 10
AGAIN_SECONDS = (0.1, 0.4)
MAX_TRIES = 60

Way = Literal["http", "queue"]


@dataclass(frozen=True, slots=True)
class Message:
    """A user's message as an event. `thread_id` None makes a thread."""

    case: CaseText
    user: str
    way: Way = "http"
    thread_id: str | None = None
    tenant: str = TENANT
    trace_id: str | None = None
    expires_at: str | None = None

    @property
    def event_id(self) -> str:
        return event_id(SOURCE, self.case.tag)

    @property
    def thread(self) -> str:
        return self.thread_id or thread_id_of(self.event_id)

    @property
    def event(self) -> dict[str, Any]:
        """As it is published."""
        request = "threads.create" if self.thread_id is None else "threads.add_user_message"
        text = {"content": [{"type": "input_text", "text": str(self.case)}], "attachments": [], "inference_options": {}}
        params = {"input": text} | ({} if self.thread_id is None else {"thread_id": self.thread_id})
        optional = {
            "traceparent": f"00-{self.trace_id}-00f067aa0ba902b7-01" if self.trace_id else None,
            "expirytime": self.expires_at,
        }
        return {
            "specversion": "1.0",
            "id": self.case.tag,
            "source": SOURCE,
            "type": f"chatkit.{request}",
            "tenant": self.tenant,
            "userid": self.user,
            "data": {"type": request, "params": params},
            **{name: value for name, value in optional.items() if value},
        }


@dataclass(slots=True)
class Publishers:
    """The ways in, and the answers that they gave."""

    gateways: Sequence[str]
    queue: Publisher | None
    http: httpx.AsyncClient
    recorder: Recorder
    chance: random.Random
    kept: dict[str, None] = field(default_factory=dict)
    """Ids of the events that were acknowledged."""

    async def publish(self, message: Message) -> bool:
        """Publish until it is acknowledged; False when nobody answered for a long time, or it was refused."""
        for _ in range(MAX_TRIES):
            publication = await self.once(message)
            if publication.told != "unknown":
                return publication.acknowledged
            await asyncio.sleep(self.chance.uniform(*AGAIN_SECONDS))
        return False

    async def once(self, message: Message) -> Publication:
        """Publish once."""
        at = time.time()
        told, thread_id = await (self._over_http(message) if message.way == "http" else self._over_queue(message))
        publication = Publication(message.event_id, at, time.time(), message.way, told, thread_id)
        self.recorder.write(publication)
        if publication.acknowledged:
            self.kept[message.event_id] = None
        return publication

    async def cancel(self, message: Message) -> bool:
        """Stop an event; whether it was in time."""
        at = time.time()
        answer = await self._post(f"/v1/events/{message.event_id}/cancel")
        answered = time.time()
        if answer is None or answer.status_code not in (httpx.codes.ACCEPTED, httpx.codes.CONFLICT):
            return False
        for _ in range(LOOKS):
            status = await self._get(f"/v1/events/{message.event_id}")
            if status is not None:
                last = status.get("last_frame_id")
                self.recorder.write(CancelAnswer(message.event_id, at, answered, answer.status_code, last))
                break
        return answer.status_code == httpx.codes.ACCEPTED

    async def redrive(self, message: Message) -> None:
        """Read the dead letter of an event, redrive it, and try to once more."""
        letter = await self._get(f"/v1/dead/{message.event_id}")
        if letter is not None:
            body = CaseText.of(letter.get("body") or "")
            self.recorder.write(
                Letter(
                    event_id=message.event_id,
                    at=time.time(),
                    reason=letter["reason"],
                    attempts=len(letter["attempts"]),
                    trace_id=letter["trace_id"],
                    body_tag=body.tag if body else None,
                )
            )
        first = await self._post(f"/v1/dead/{message.event_id}/redrive", seconds=PATIENT_SECONDS)
        second = await self._post(f"/v1/dead/{message.event_id}/redrive", seconds=PATIENT_SECONDS)
        statuses = [answer.status_code if answer else 0 for answer in (first, second)]
        self.recorder.write(Redrive(message.event_id, time.time(), *statuses))

    async def _over_http(self, message: Message) -> tuple[Told, str | None]:
        answer = await self._post("/v1/events", message.event)
        match answer:
            case httpx.Response(status_code=200 | 202):
                body = answer.json()
                return ("duplicate" if body["duplicate"] else "new"), body["thread_id"]
            case httpx.Response(status_code=400 | 413 | 429):
                return "refused", None
            case _:
                return "unknown", None

    async def _over_queue(self, message: Message) -> tuple[Told, str | None]:
        if self.queue is None:
            return await self._over_http(message)
        try:
            published = await self.queue.apublish(message.event)
        except PublishError:
            return "unknown", None
        return "confirmed", published.thread_id

    async def _post(
        self, path: str, body: Mapping[str, Any] | None = None, seconds: float = ANSWER_SECONDS
    ) -> httpx.Response | None:
        url = f"{self.chance.choice(self.gateways)}{path}"
        try:
            return await self.http.post(url, json=body, headers=SERVICE, timeout=seconds)
        except httpx.HTTPError:
            return None

    async def _get(self, path: str) -> dict[str, Any] | None:
        url = f"{self.chance.choice(self.gateways)}{path}"
        try:
            answer = await self.http.get(url, headers=SERVICE, timeout=ANSWER_SECONDS)
        except httpx.HTTPError:
            return None
        return dict(answer.json()) if answer.is_success else None
