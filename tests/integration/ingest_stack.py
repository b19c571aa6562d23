"""The ways in on real services: an intake over real lanes, with a handler that records what it ran.

Run as a program (`python -m tests.integration.ingest_stack drain|celery …`) it is a process that tests can kill.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery, signals
from kombu.entity import Exchange, Queue

from schemas.errors import WorkersError
from schemas.events import MAX_EVENT_BYTES
from schemas.outcome import Cancelled, DeadLettered, DeadReason, Done, Outcome
from schemas.records import DeadLetter
from workers.ingest.admission import Admission
from workers.ingest.ingress import Ingress, connect_ingress
from workers.ingest.install import install
from workers.ingest.intake import Intake
from workers.ingest.rounds import LightRounds
from workers.lanes.connection import State, connect
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Wake
from workers.policies.batch import LightResult
from workers.policies.delivery import Delivery
from workers.policies.retry import record_of
from workers.routing import default_queue
from workers.settle import Settler

CELERY_QUEUE = "chatkit.events"
DRAIN_LEASE = timedelta(seconds=0.6)


def text(value: bytes | str | None) -> str:
    """A reply of Redis as text."""
    return value.decode() if isinstance(value, bytes) else value or ""


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class RecordedRuns:
    """A light handler that notes each run and each wake-up in Redis lists, where other processes' notes are too."""

    state: State
    prefix: str

    async def __call__(self, deliveries: Sequence[Delivery]) -> list[LightResult]:
        await self.state.rpush(f"{self.prefix}:ran", *(delivery.event.event_id for delivery in deliveries))
        return [(Done(), [b'{"type":"ok"}']) for _ in deliveries]

    async def wake(self, wakes: Sequence[Wake]) -> None:
        await self.state.rpush(f"{self.prefix}:woken", *(wake.event_id for wake in wakes))

    async def ran(self) -> list[str]:
        return [text(item) for item in await self.state.lrange(f"{self.prefix}:ran", 0, -1)]

    async def woken(self) -> list[str]:
        return [text(item) for item in await self.state.lrange(f"{self.prefix}:woken", 0, -1)]


class NoPolicies:
    """Judges nothing but what was stopped; a failure is a dead letter."""

    def judge(self, delivery: Delivery) -> Outcome | None:
        return Cancelled(delivery.stop.reason) if delivery.stop.reason is not None else None

    def decide(self, error: WorkersError, delivery: Delivery) -> Outcome:
        return DeadLettered(DeadReason.PERMANENT, record_of(error))


@dataclass(frozen=True, slots=True)
class IngestStack:
    """An intake over real lanes, running."""

    state: State
    keys: Keys
    lanes: Lanes
    intake: Intake
    rounds: LightRounds
    admission: Admission
    runs: RecordedRuns

    async def all_accepted(self, ids: Sequence[str]) -> bool:
        """Whether each of these events was accepted."""
        return 0 not in await self.acceptances(ids)

    async def acceptances(self, ids: Sequence[str]) -> list[int]:
        """The acceptance numbers of events, 0 for none; they grow within a shard."""
        lanes = await self.state.mget([self.keys.where(event_id) for event_id in ids])
        pipeline: Any = self.state.pipeline(transaction=False)
        for event_id, lane in zip(ids, lanes, strict=True):
            pipeline.hget(f"{self.keys.tag_of(text(lane))}event:{event_id}", "acceptance")
        return [int(number or 0) for number in await pipeline.execute()]

    async def letters(self) -> list[DeadLetter]:
        """The dead letters, newest first, each with its body."""
        dead_letters = self.lanes.dead_letters
        kept = [await dead_letters.get(listed.id) for listed in (await dead_letters.page()).items]
        return [letter for letter in kept if letter is not None]

    def ingress(self, broker_url: str, owner: str = "w1") -> Ingress:
        """A drain of the stream on a broker."""
        client = connect_ingress(broker_url)
        return Ingress(client, self.keys.ingress, self.admission, owner=owner, lease=DRAIN_LEASE)


@asynccontextmanager
async def ingest_stack(state_url: str, prefix: str, **bounds: int) -> AsyncIterator[IngestStack]:
    """Build it, start it, close it."""
    state = connect(state_url)
    keys = Keys(prefix, 4)
    lanes = Lanes(
        state,
        keys,
        owner="w1",
        lease=timedelta(seconds=10),
        max_waiting_per_lane=bounds.get("lane", 5_000),
        max_waiting=bounds.get("system", 100_000),
        retention=timedelta(minutes=10),
    )
    runs = RecordedRuns(state, prefix)
    rounds = LightRounds(lanes, runs, runs, NoPolicies(), Settler("w1"), now)
    intake = Intake(lanes, runs, rounds, default_queue)
    admission = Admission(intake, lanes, worker="w1", max_event_bytes=MAX_EVENT_BYTES, now=now)
    await intake.start()
    try:
        yield IngestStack(state, keys, lanes, intake, rounds, admission, runs)
    finally:
        await intake.close()
        await state.aclose()


async def drain_until_killed(state_url: str, prefix: str, owner: str) -> None:
    """A process that drains the stream."""
    async with ingest_stack(state_url, prefix) as stack:
        print("ready", flush=True)
        await stack.ingress(state_url, owner).run()


def celery_app(broker_url: str, state_url: str, prefix: str) -> Celery:
    """A worker with the ways in, its loop in a thread beside Celery's main one."""
    app = Celery("ingest-tests", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_queues=[Queue(CELERY_QUEUE, Exchange("chatkit.tasks", type="direct"), routing_key=CELERY_QUEUE)],  # type: ignore[no-untyped-call]  # kombu has no types
        accept_content=["json"],
        worker_pool="solo",
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stacks: list[IngestStack] = []

    async def serve() -> None:
        async with ingest_stack(state_url, prefix) as stack:
            stacks.append(stack)
            started.set()
            await asyncio.Event().wait()

    threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True).start()
    assert started.wait(10)
    install(app, loop_of=lambda: loop, admission_of=lambda: stacks[0].admission)

    @app.task(name="echo")  # type: ignore[untyped-decorator]  # celery has no types
    def echo(text: str) -> None:
        asyncio.run_coroutine_threadsafe(_note(stacks[0], text), loop).result(10)

    return app


async def _note(stack: IngestStack, text: str) -> None:
    await stack.state.rpush(f"{stack.runs.prefix}:echo", text)


def run_celery(broker_url: str, state_url: str, prefix: str) -> None:
    """A process that is a Celery worker with the ways in."""
    app = celery_app(broker_url, state_url, prefix)

    def say_ready(**_: Any) -> None:
        print("ready", flush=True)  # stdout's first line, since Celery is quiet

    signals.worker_ready.connect(say_ready)
    app.worker_main(["--quiet", "worker", "--loglevel=WARNING", "--without-gossip", "--without-mingle"])


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "drain":
        asyncio.run(drain_until_killed(*rest))
    else:
        run_celery(*rest)
