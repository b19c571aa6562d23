"""What Celery would drop or die of, kept: what cannot be decoded, is no task, or names an unknown one."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pydantic_core
from celery import bootsteps

from workers.ingest.admission import Admission
from workers.ingest.amqp import AdmissionOf, LoopOf, acknowledge

log = logging.getLogger(__name__)

MALFORMED = (TypeError, ValueError, LookupError)
"""What Celery raises over a message of an unforeseen shape. It would end the worker, and the next one that gets it."""


class KeepDroppedStep(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
    """Replaces the consumer's four ways of dropping a message by keeping it as a dead letter, then acknowledging; what
    the consumer would die of, is kept likewise.

    Celery's signals (`task_rejected`, `task_unknown`) come after it has rejected the message, when a crash would lose
    it, and there is none for a message that does not decode.
    """

    loop_of: LoopOf
    admission_of: AdmissionOf

    @classmethod
    def wired(cls, loop_of: LoopOf, admission_of: AdmissionOf) -> type["KeepDroppedStep"]:
        """The step with its collaborators, which exist once the pool runs."""
        attributes = {"loop_of": staticmethod(loop_of), "admission_of": staticmethod(admission_of)}
        return type("WiredKeepDroppedStep", (cls,), attributes)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        super().__init__(c, **kwargs)
        self._call_soon: Callable[..., Any] = c.call_soon
        self._running: set[asyncio.Task[None]] = set()
        # set before Celery builds its task handler, which takes them from the consumer
        c.on_decode_error = lambda message, error: self._keep(message, f"cannot be decoded: {type(error).__name__}")
        c.on_unknown_message = lambda _body, message: self._keep(message, "is no task message")
        c.on_unknown_task = lambda _body, message, error: self._keep(message, f"names an unknown task: {error}")
        c.on_invalid_task = lambda _body, message, _error: self._keep(message, "is no valid task message")
        create = c.create_task_handler
        c.create_task_handler = lambda *args, **kwargs: self._guarded(create(*args, **kwargs))

    def _guarded(self, on_task_received: Callable[[Any], None]) -> Callable[[Any], None]:
        def guarded(message: Any) -> None:
            try:
                error = flaw_of(message)
                if error is None:
                    on_task_received(message)
            except MALFORMED as failure:
                error = f"is no valid task message: {type(failure).__name__}"
            if error is not None:
                self._keep(message, error)

        return guarded

    def _keep(self, message: Any, error: str) -> None:
        try:
            source = f"queue {(message.delivery_info or {}).get('routing_key')}"
            raw = _as_bytes(message)
            self.loop_of().call_soon_threadsafe(self._start, message, raw, error, source)
        except Exception as failure:  # noqa: BLE001  # an exception in a consumer's callback would end the worker
            log.error("message_not_kept", extra={"error": type(failure).__name__})

    def _start(self, message: Any, raw: bytes, error: str, source: str) -> None:
        task = asyncio.get_running_loop().create_task(self._bury(message, raw, error, source))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _bury(self, message: Any, raw: bytes, error: str, source: str) -> None:
        admission = self.admission_of()
        await admission.bury([admission.letter(raw, f"the message {error}", source=source)])
        log.warning("message_kept", extra={"queue": source, "reason": error})
        self._call_soon(acknowledge, [message])


def flaw_of(message: Any) -> str | None:
    """What is wrong with the shape of a task message, in either of Celery's protocols; None if Celery can take it."""
    try:
        payload, fields = message.payload, message.headers or {}
    except Exception:  # noqa: BLE001  # it cannot be decoded, and Celery has a callback for that
        return None
    if "task" not in fields:  # protocol 1 has all in its body
        fields = payload if isinstance(payload, Mapping) else {}
        if "task" not in fields:
            return None
    if not isinstance(fields.get("id"), str):
        return "has no id"
    match payload:
        case {}:
            args, kwargs = payload.get("args", []), payload.get("kwargs", {})
        case [args, kwargs, None | {}]:
            pass
        case _:
            return "is not [arguments, keyword arguments, options]"
    return None if isinstance(args, list) and isinstance(kwargs, dict) else "has no list of arguments, or no object"


def keep_popped(loop_of: LoopOf, admission_of: AdmissionOf) -> Callable[[str, bytes], None]:
    """What the Redis transport calls with an item of a list that is no message of kombu's (it is popped already)."""
    running: set[asyncio.Task[None]] = set()

    def start(queue: str, raw: bytes) -> None:
        admission: Admission = admission_of()
        error = "the item is no Celery message; plain events go to the stream <prefix>:ingress"
        letter = admission.letter(raw, error, source=f"queue {queue}")
        task = asyncio.get_running_loop().create_task(admission.bury([letter]))
        running.add(task)
        task.add_done_callback(running.discard)

    def keep(queue: str, raw: bytes) -> None:
        loop_of().call_soon_threadsafe(start, queue, raw)

    return keep


def _as_bytes(message: Any) -> bytes:
    """The message with the headers that say what it was meant to be."""
    return pydantic_core.to_json(
        {
            "content_type": message.content_type,
            "content_encoding": message.content_encoding,
            "headers": message.headers,
            "body": message.body,
        },
        fallback=repr,
        bytes_mode="base64",
    )
