"""(a) Events that need no model, per second and worker process, against a bare Celery no-op.

Everything is published before the worker starts, so that the publisher's CPU is not measured.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from celery import Celery

from schemas.events import event_id
from schemas.outcome import EventState
from tests.bench.noop_app import task
from tests.bench.rate import rate_of
from tests.bench.sizes import Sizes
from tests.bench.stack import Stack, stack, until
from tests.bench.table import Line, Table
from tests.bench.threads import Threads, make_threads
from tests.eventually import eventually_sync
from tests.services import rabbitmq_reachable, rabbitmq_vhost
from tests.worker_process import WorkerProcess
from workers.lanes.lanes import Lanes
from workers.publisher import Publisher

MARK_EACH = 25
BATCH = 100
SOURCE = "/bench"
POOLS = {"prefork": ("-P", "prefork", "-c", "2"), "threads": ("-P", "threads", "-c", "10"), "solo": ("-P", "solo")}
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")
"""In favour of the baseline: ours runs with them."""

Publish = Callable[[Stack, Sequence[dict[str, Any]]], None]


@dataclass(frozen=True, slots=True)
class Way:
    """A way in, and what is expected of it as a multiple of the baseline."""

    name: str
    publish: Publish
    in_batches: bool
    target: float


def run(sizes: Sizes) -> list[Table]:
    """One table per broker."""
    with TemporaryDirectory(prefix="chatkit-bench-") as folder:
        threads = make_threads(sizes.threads, Path(folder))
        tables = [_table("Redis", None, threads, sizes)]
        if not rabbitmq_reachable():
            return [*tables, Table("(a) light events, RabbitMQ", "left out", [Line("RabbitMQ", "not reachable")])]
        with rabbitmq_vhost() as url:
            return [*tables, _table("RabbitMQ", url, threads, sizes)]


def _table(broker: str, broker_url: str | None, threads: Threads, sizes: Sizes) -> Table:
    bare = {pool: _noop_rate(broker_url, options, sizes.noops) for pool, options in POOLS.items()}
    best = max(bare.values())
    lines = [Line(f"bare Celery no-op, {pool}", f"{rate:,.0f}/s") for pool, rate in bare.items()]
    for way in WAYS:
        rate = _our_rate(way, broker_url, threads, sizes)
        target = f">= {way.target:g}x of the best no-op" if broker_url is None else ""
        good = rate >= way.target * best if target else None
        lines.append(Line(way.name, f"{rate:,.0f}/s = {rate / best:.2f}x", target, good))
    return Table(f"(a) light events, {broker}", "feedback events, one worker process, events preloaded", lines)


def _noop_rate(broker_url: str | None, options: Sequence[str], count: int) -> float:
    with stack(broker_url) as parts, ExitStack() as ending:
        marks = Path(parts.folder) / "marks"
        client = Celery("bench", broker=parts.broker_url, set_as_current=False)
        event = next(_events(["thr_1"], 1))
        with client.connection_for_write() as connection, client.amqp.Producer(connection) as producer:
            for number in range(count):
                client.send_task(task.name, [number, event], producer=producer, ignore_result=True)
        environment = {
            "BENCH_BROKER_URL": parts.broker_url,
            "BENCH_MARKS": str(marks),
            "BENCH_MARK_EACH": str(MARK_EACH),
        }
        worker = WorkerProcess(
            "tests.bench.noop_app", environment=environment, options=[*options, *QUIET], log_level="WARNING", fresh=True
        )
        ending.callback(worker.stop)  # warm, or prefork's children would be left
        worker.launch()
        expected = len(range(0, count, MARK_EACH))
        eventually_sync(lambda: marks.exists() and len(_times(marks)) == expected, within=300, every=0.2)
        return rate_of(_times(marks), MARK_EACH)


def _our_rate(way: Way, broker_url: str | None, threads: Threads, sizes: Sizes) -> float:
    count = sizes.batched_events if way.in_batches else sizes.single_events
    with stack(broker_url) as parts:
        threads.put_into(parts)
        events = list(_events(threads.ids, count))
        way.publish(parts, events)
        parts.worker()

        async def all_done(lanes: Lanes) -> bool:
            states = (await lanes.depth()).states
            assert not states[EventState.DEAD], "feedback became dead letters"
            return states[EventState.DONE] == count

        until(parts, all_done, within=300)
        return rate_of(_ended(parts, events), MARK_EACH)


def _ended(parts: Stack, events: Sequence[dict[str, Any]]) -> list[float]:
    ended: list[float] = []

    async def collect(lanes: Lanes) -> bool:
        for event in itertools.islice(events, 0, None, MARK_EACH):
            found = await lanes.status(event_id(SOURCE, event["id"]))
            assert found is not None
            assert found[0].ended_at is not None
            ended.append(found[0].ended_at.timestamp())
        return True

    until(parts, collect, within=60)
    return ended


def _events(threads: Sequence[str], count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        params = {"thread_id": threads[number % len(threads)], "item_ids": ["msg_1"], "kind": "positive"}
        yield {
            "specversion": "1.0",
            "id": f"e{number}",
            "source": SOURCE,
            "type": "chatkit.items.feedback",
            "userid": "u1",
            "data": {"type": "items.feedback", "params": params, "metadata": {}},
        }


def _times(marks: Path) -> list[float]:
    return [float(line) for line in marks.read_text(encoding="utf-8").splitlines()]


def _through_publisher(parts: Stack, events: Sequence[dict[str, Any]]) -> None:
    with Publisher(parts.broker_url) as publisher:
        publisher.publish_many(events)


def _in_lists(parts: Stack, events: Sequence[dict[str, Any]]) -> None:
    _send(parts, [list(events[at : at + BATCH]) for at in range(0, len(events), BATCH)])


def _one_by_one(parts: Stack, events: Sequence[dict[str, Any]]) -> None:
    _send(parts, events)


def _send(parts: Stack, arguments: Sequence[Any]) -> None:
    """Messages of the task `chatkit.ingest`, as another service's Celery app sends them."""
    from workers.broker import queues
    from workers.routing import QUEUE_INGEST
    from workers.settings import Settings

    client = Celery("bench", broker=parts.broker_url, set_as_current=False)
    client.conf.task_queues = queues(Settings(broker_url=parts.broker_url))
    with client.connection_for_write() as connection, client.amqp.Producer(connection) as producer:
        for argument in arguments:
            client.send_task("chatkit.ingest", [argument], queue=QUEUE_INGEST, producer=producer, ignore_result=True)


WAYS = (
    Way("Publisher (stream or exchange)", _through_publisher, in_batches=True, target=4.0),
    Way(f"chatkit.ingest, lists of {BATCH}", _in_lists, in_batches=True, target=4.0),
    Way("chatkit.ingest, one per event", _one_by_one, in_batches=False, target=0.7),
)
