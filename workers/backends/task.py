"""A backend that is a Celery task of somebody else's worker, on a queue of its own.

The other side runs a Celery app on the same broker, consumes the declared queue, and keeps its results as JSON in the
Redis of `CHATKIT_STATE_URL` (`result_backend`, `result_serializer="json"`). The id of the task is made of the
idempotency key: the same call sent twice is the same task twice, which is how it knows.
"""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workers.backend_types import TaskCall
from workers.backends.ports import Answer, Caller, Failure, Fault, Result
from workers.lanes.connection import STATE_ERRORS, State

RESULT = "celery-task-meta-"
"""Where Celery's result backend for Redis keeps the result of a task."""

FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.02, 0.5
HIDDEN = "(of a conversation)"
"""In place of the arguments, wherever the other side shows its tasks: they may hold what people wrote."""


class TaskSender:
    """Publishes tasks from a thread of its own, since kombu blocks. Nothing is declared: the queue is another's."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._thread = ThreadPoolExecutor(2, thread_name_prefix="backend-tasks")

    async def send(
        self, call: TaskCall, task_id: str, arguments: Mapping[str, Any], caller: Caller, ttl: float
    ) -> None:
        """Send a task, which nobody is to begin later than `ttl` seconds from now. Raises what the broker raises."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._send, call, task_id, dict(arguments), caller, ttl)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _send(self, call: TaskCall, task_id: str, arguments: dict[str, Any], caller: Caller, ttl: float) -> None:
        message = self._app.amqp.create_task_message(
            task_id, call.name, (), arguments, expires=ttl, argsrepr=HIDDEN, kwargsrepr=HIDDEN
        )
        about = {"tenant": caller.tenant, "user": caller.user, "idempotency_key": caller.key}
        with self._app.producer_or_acquire() as producer:
            producer.publish(
                message.body,
                exchange="",  # the default one, which knows every queue by its name
                routing_key=call.queue,
                headers={**message.headers, "chatkit": about, "traceparent": caller.traceparent},
                serializer="json",
                declare=[],
                retry=False,
                **message.properties,
            )


class TaskBackend:
    """One task. It waits for the result by looking, more and more seldom: a lost connection loses nothing."""

    def __init__(self, call: TaskCall, sender: TaskSender, state: State, *, timeout_seconds: float) -> None:
        self._call, self._sender, self._state = call, sender, state
        self._timeout_seconds = timeout_seconds

    async def call(self, arguments: Mapping[str, Any], caller: Caller) -> Result:
        """Send the task, unless its result is there already, and wait for the result."""
        task_id = task_id_of(self._call.name, caller)
        try:
            if (found := await self._result(task_id)) is not None:
                return found
            await self._sender.send(self._call, task_id, arguments, caller, self._timeout_seconds)
            return await self._awaited(task_id)
        except STATE_ERRORS as error:
            return Failure(Fault.UNANSWERED, type(error).__name__)
        except Exception as error:  # noqa: BLE001  # whatever a broker raises
            return Failure(Fault.UNANSWERED, type(error).__name__)

    async def _awaited(self, task_id: str) -> Result:
        # A deadline of its own: redis-py sends inside `asyncio.wait_for`, which on Python 3.11 may swallow the
        # cancellation by which the caller's comes.
        pause, deadline = FIRST_LOOK_SECONDS, time.monotonic() + self._timeout_seconds
        while (found := await self._result(task_id)) is None:
            if time.monotonic() > deadline:
                return Failure(Fault.UNANSWERED, f"no answer within {self._timeout_seconds:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_LOOK_SECONDS)
        return found

    async def _result(self, task_id: str) -> Result | None:
        kept = await self._state.get(RESULT + task_id)
        if kept is None:
            return None
        meta = json.loads(kept)
        match meta.get("status"):
            case "SUCCESS":
                value = meta.get("result")
                return Answer(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            case "FAILURE":
                kind = str((meta.get("result") or {}).get("exc_type", "an error"))
                return Failure(Fault.REFUSED, f"the task failed ({kind[:80]})")
            case "REVOKED":
                return Failure(Fault.UNREACHED, "the task was not begun in time")
            case _:
                return None


def task_id_of(name: str, caller: Caller) -> str:
    """The id of the task of a call: the same in every attempt, of no other tenant, and nothing can be read in it."""
    digest = hashlib.sha256(f"{name}\n{caller.tenant}\n{caller.key}".encode()).digest()
    return f"chatkit-{base64.b32encode(digest).decode().lower()[:32]}"
