"""The Celery app of the usual way."""

import asyncio
import os
import sys
from typing import Any

from celery import Celery, Task, signals

from workers import failpoints
from workers.chaos.usual.agent import stream
from workers.chaos.usual.board import URL, Board
from workers.failpoints import FailPoint

VISIBILITY_SECONDS = "USUAL_VISIBILITY_SECONDS"
TURN_SECONDS = "USUAL_TURN_SECONDS"
RATE = "USUAL_RATE"
TASK = "answer"
MAX_RETRIES = 5


class AnswerTask(Task):  # type: ignore[misc]  # Celery has no types
    """Tells the page of an answer that fails for good."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        failpoints.hit(FailPoint.IN_DEAD_LETTER, subject=task_id)
        Board.open().end(kwargs["event_id"], "dead")


def make_app() -> Celery:
    """The app, of this process's environment."""
    app = Celery("usual", broker=os.environ[URL], set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": float(os.environ[VISIBILITY_SECONDS]),
            "socket_timeout": 10,
            "socket_keepalive": True,
        },
        task_ignore_result=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    app.task(
        answer,
        name=TASK,
        base=AnswerTask,
        acks_late=True,
        autoretry_for=(Exception,),
        retry_backoff=True,
        retry_backoff_max=2,
        max_retries=MAX_RETRIES,
        rate_limit=os.environ[RATE],
    )
    return app


def answer(event_id: str, thread_id: str, text: str) -> None:
    """One turn."""
    failpoints.hit(FailPoint.AFTER_BEGIN, subject=event_id)
    board = Board.open()
    board.began(event_id)
    messages = board.messages(thread_id)
    if messages[-1:] != [{"role": "user", "content": text}]:
        board.say(thread_id, "user", text)
        messages.append({"role": "user", "content": text})
    said = asyncio.run(_run(board, event_id, messages))
    board.say(thread_id, "assistant", said)
    failpoints.hit(FailPoint.BEFORE_SETTLE, subject=event_id)
    board.end(event_id, "done", said)
    failpoints.hit(FailPoint.AFTER_SETTLE, subject=event_id)


async def _run(board: Board, event_id: str, messages: list[Any]) -> str:
    said: dict[str, str] = {}
    async for frame in stream(messages, float(os.environ[TURN_SECONDS])):
        board.show(event_id, frame)
        if frame["type"] == "thread.item.done":
            said[frame["item"]["id"]] = frame["item"]["content"][0]["text"]
    return "".join(said.values())


def main(arguments: list[str]) -> int:
    """`celery worker`; says "ready" when it consumes."""
    signals.worker_ready.connect(_say_ready)
    return int(make_app().worker_main(arguments) or 0)


def _say_ready(**_: Any) -> None:
    sys.stderr.write("ready\n")
    sys.stderr.flush()
