"""The usual way as a deployment of the suite."""

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from workers.chaos.order import Order
from workers.chaos.records import Case, Record, Remains, Said, Status, Stored
from workers.chaos.settings import CONCURRENCY, RPM, RunSettings
from workers.chaos.system import Places, Rest
from workers.chaos.usual.board import URL, key_of, thread_of
from workers.chaos.usual.worker import RATE, TURN_SECONDS, VISIBILITY_SECONDS

ENDED = ("done", "dead", "cancelled")
VISIBILITY_LEASES = 5
"""The visibility timeout, in leases: shorter, and healthy turns are run twice."""


class UsualSystem:
    """Celery, `acks_late`, pub/sub."""

    name = "the usual way"
    has_queue = False
    preload: Sequence[str] = (
        "celery.bin.celery",
        "celery.apps.worker",
        "celery.worker.consumer",
        "celery.concurrency.thread",
        "kombu.transport.redis",
        "uvicorn",
        "workers.chaos.usual.agent",
    )

    def __init__(self, settings: RunSettings, folder: Path, state_url: str) -> None:
        self._settings = settings
        # the suite's own connection: it is idle while Redis is killed, and must not be what the run fails of
        again = Retry(ExponentialBackoff(cap=1.0, base=0.05), 5)
        self._redis: Any = Redis.from_url(state_url, socket_timeout=5, socket_connect_timeout=5, retry=again)

    async def prepare(self) -> None:
        """Nothing: Redis is all that it needs."""

    def worker(self, name: str, places: Places) -> Order:
        threads = str(max(1, CONCURRENCY // self._settings.workers))
        options = ("worker", "-n", f"{name}@chaos", "-P", "threads", "-c", threads, "-l", "WARNING")
        return self._order(name, "workers.chaos.usual.worker:main", options, places)

    def gateway(self, name: str, port: int, places: Places) -> Order:
        return self._order(name, "workers.chaos.usual.web:main", (str(port),), places)

    def _order(self, name: str, call: str, arguments: tuple[str, ...], places: Places) -> Order:
        settings = self._settings
        environment = os.environ | {
            URL: places.state_url,
            VISIBILITY_SECONDS: str(VISIBILITY_LEASES * settings.lease_seconds),
            TURN_SECONDS: str(settings.turn_seconds),
            RATE: f"{RPM / settings.workers:.0f}/m",
            "CHAOS_RECORDS": str(places.records),
            "CHAOS_NAME": name,
            "OPENAI_BASE_URL": places.provider_url,
            "OPENAI_API_KEY": "of-no-value",
        }
        return Order(name, call, arguments, environment, str(places.folder / "logs" / f"{name}.log"))

    async def rest(self, event_ids: Collection[str]) -> Rest:
        statuses = await self._statuses(event_ids)
        unfinished = [one for one in event_ids if one not in statuses or statuses[one].state not in ENDED]
        kept = await self._kept()
        return Rest(unfinished, ", ".join(f"{count} {name}" for name, count in kept.items() if count))

    def look_again(self, event_id: str) -> None:
        """Nothing here has a second life."""

    async def snapshot(self, cases: Mapping[str, Case], why: str) -> Sequence[Record]:
        stored = []
        for thread_id in dict.fromkeys(case.thread_id for case in cases.values() if case.thread_id):
            lines = [json.loads(line) for line in await self._redis.lrange(thread_of(thread_id), 0, -1)]
            stored.append(Stored(thread_id, tuple(Said(line["role"], line["content"]) for line in lines)))
        statuses = await self._statuses(cases)
        return [Remains(time.time(), await self._kept(), 0, why), *statuses.values(), *stored]

    async def close(self) -> None:
        await self._redis.aclose()

    async def _kept(self) -> dict[str, int]:
        return {
            "messages that wait": await self._redis.llen("celery"),
            "unacknowledged messages": await self._redis.zcard("unacked_index"),
        }

    async def _statuses(self, event_ids: Collection[str]) -> dict[str, Status]:
        pipeline = self._redis.pipeline(transaction=False)
        for event_id in event_ids:
            pipeline.hgetall(key_of(event_id))
        found = zip(event_ids, await pipeline.execute(), strict=True)
        order = sorted((float(fields[b"accepted_at"]), event_id, fields) for event_id, fields in found if fields)
        return {
            event_id: Status(
                event_id=event_id,
                state=fields[b"state"].decode(),
                reason=None,
                acceptance=place,
                accepted_at=accepted_at,
                started_at=_number(fields.get(b"started_at")),
                ended_at=_number(fields.get(b"ended_at")),
            )
            for place, (accepted_at, event_id, fields) in enumerate(order)
        }


def _number(value: bytes | None) -> float | None:
    return float(value) if value else None
