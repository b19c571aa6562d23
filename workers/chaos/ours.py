"""This project as a deployment of the suite."""

import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from schemas.chatkit import AssistantMessageItem, ThreadItem, UserMessageItem
from schemas.outcome import EventState
from schemas.records import EventStatus
from workers.chaos.order import Order
from workers.chaos.records import Case, Record, Remains, Said, Status, Stored
from workers.chaos.settings import SECRET_KEY, SERVICE_KEY, RunSettings
from workers.chaos.system import Places, Rest
from workers.chat import rows
from workers.chat.database import Database
from workers.failpoints import VARIABLE as FAIL_POINTS
from workers.lanes.connection import connect
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Owner
from workers.limits.limiter import Limiter

MODEL = "gpt-4.1"
SHARDS = 8
PREFIX = "ck"
ITEMS = 200
SHOWN = (EventState.DONE, EventState.CANCELLED)


class OurSystem:
    """Lanes, leases, journal."""

    name = "chatkit-workers"
    has_queue = True
    preload: Sequence[str] = (
        "celery.bin.celery",
        "celery.apps.worker",
        "celery.worker.consumer",
        "kombu.transport.redis",
        "uvicorn",
        "workers.cli.main",
        "workers.cli.worker",
        "workers.cli.gateway",
        "workers.cli.connections",
        "workers.cli.database_check",
        "workers.cli.serving",
        "workers.chaos.services",
        "workers.gateway.app",
        "workers.gateway.wiring",
        "workers.ingest.install",
        "workers.pool",
        "workers.runtime",
        "workers.tasks",
        "workers.telemetry.worker",
    )

    def __init__(self, settings: RunSettings, folder: Path, state_url: str) -> None:
        self._settings, self._folder = settings, folder
        self._database = Database(self._database_url)
        self._ended: set[str] = set()
        self._state = connect(state_url, max_connections=4)
        keys = Keys(PREFIX, SHARDS)
        self._limiter = Limiter(self._state, keys)
        # bounds and terms matter to those who write; this one reads
        self._lanes = Lanes(
            self._state,
            keys,
            owner="chaos",
            lease=timedelta(seconds=settings.lease_seconds),
            max_waiting_per_lane=1,
            max_waiting=SHARDS,
            retention=timedelta(hours=1),
        )

    @property
    def _database_url(self) -> str:
        return f"sqlite+aiosqlite:///{self._folder / 'chatkit.db'}"

    async def prepare(self) -> None:
        await self._database.upgrade()

    def worker(self, name: str, places: Places) -> Order:
        options = ("worker", "-n", f"{name}@chaos", "--without-mingle", "--without-gossip", "-l", "WARNING")
        return self._order(name, options, places)

    def gateway(self, name: str, port: int, places: Places) -> Order:
        return self._order(name, ("gateway", "--port", str(port)), places)

    def _order(self, name: str, arguments: tuple[str, ...], places: Places) -> Order:
        log = str(places.folder / "logs" / f"{name}.log")
        return Order(name, "workers.cli.main:run", arguments, self._environment(name, places), log)

    def _environment(self, name: str, places: Places) -> Mapping[str, str]:
        ours = ("CHATKIT_", "OPENAI_", "SENTRY_")
        settings = self._settings
        return {key: value for key, value in os.environ.items() if not key.startswith(ours)} | {
            "CHATKIT_BROKER_URL": places.state_url,
            "CHATKIT_STATE_URL": places.state_url,
            "CHATKIT_DATABASE_URL": self._database_url,
            "CHATKIT_SECRET_KEY": SECRET_KEY,
            "CHATKIT_API_KEYS": SERVICE_KEY,
            "CHATKIT_MODEL": MODEL,
            "CHATKIT_LEASE_TTL": str(settings.lease_seconds),
            "CHATKIT_LIMITS": settings.limits,
            "CHATKIT_DRAIN_SECONDS": "1",
            "CHATKIT_TURN_SECONDS": str(settings.turn_seconds),
            "CHATKIT_MAX_ATTEMPTS": "10",
            "CHATKIT_BACKOFF_BASE": "0.2",
            "CHATKIT_BACKOFF_CAP": "2",
            "CHATKIT_LOG_LEVEL": "WARNING",
            "CHATKIT_SERVICES": "workers.chaos.services:make",
            "CHAOS_RECORDS": str(places.records),
            "CHAOS_NAME": name,
            FAIL_POINTS: f"@{places.fail_points}",
            "OPENAI_BASE_URL": places.provider_url,
            "OPENAI_API_KEY": "of-no-value",
        }

    async def rest(self, event_ids: Collection[str]) -> Rest:
        statuses = await self._statuses([event_id for event_id in event_ids if event_id not in self._ended])
        self._ended |= {event_id for event_id, status in statuses.items() if status.state.ended}
        unfinished = [event_id for event_id in event_ids if event_id not in self._ended]
        kept = await self._kept()
        return Rest(unfinished, ", ".join(f"{count} {name}" for name, count in kept.items() if count))

    def look_again(self, event_id: str) -> None:
        self._ended.discard(event_id)

    async def snapshot(self, cases: Mapping[str, Case], why: str) -> Sequence[Record]:
        depth = await self._lanes.depth()
        remains = Remains(time.time(), await self._kept(), depth.fenced_writes, why)
        statuses = await self._statuses(cases)
        return [
            remains,
            *map(_status_of, statuses.values()),
            *await self._stored([cases[id_] for id_, status in statuses.items() if status.state in SHOWN]),
        ]

    async def close(self) -> None:
        await self._state.aclose()
        await self._database.close()

    async def _kept(self) -> dict[str, int]:
        """What is there that nothing should be left of: by the keys themselves, not by any counter."""
        kept = dict.fromkeys(("leases", "lanes", "alarms", "streams"), 0)
        state: Any = self._state
        async for key in state.scan_iter(match=f"{PREFIX}:{{s*}}:*", count=1000):
            match key.decode().split("}:")[1].partition(":")[0]:
                case "lease":
                    kept["leases"] += 1
                case "lane":
                    kept["lanes"] += 1
                case "alarms":
                    kept["alarms"] += await state.zcard(key)
                case "out" | "journal":
                    kept["streams"] += await state.ttl(key) < 0  # its clock starts when its event ends
        [model] = await self._limiter.status(MODEL)
        return {**kept, "reservations": model.in_flight, "in line": model.waiting}

    async def _statuses(self, event_ids: Iterable[str]) -> dict[str, EventStatus]:
        found = {event_id: await self._lanes.status(event_id) for event_id in event_ids}
        return {event_id: one[0] for event_id, one in found.items() if one is not None}

    async def _stored(self, cases: Iterable[Case]) -> list[Stored]:
        threads = dict.fromkeys((case.thread_id, Owner(case.tenant, case.user)) for case in cases)
        return [
            Stored(thread_id, tuple(await self._database.read(partial(_said_in, owner, thread_id))))
            for thread_id, owner in threads
            if thread_id is not None
        ]


def _said_in(owner: Owner, thread_id: str, connection: Connection) -> list[Said]:
    page = rows.list_items(connection, owner, thread_id, None, ITEMS, "asc")
    return [said for item in page.data if (said := _said(item)) is not None]


def _said(item: ThreadItem) -> Said | None:
    match item:
        case UserMessageItem():
            return Said("user", "".join(part.text for part in item.content))
        case AssistantMessageItem():
            return Said("assistant", "".join(part.text for part in item.content))
        case _:
            return None


def _status_of(status: EventStatus) -> Status:
    return Status(
        event_id=status.id,
        state=status.state,
        reason=status.reason,
        acceptance=int(status.last_frame_id.partition("-")[0]) if status.last_frame_id else None,
        accepted_at=status.accepted_at.timestamp(),
        started_at=status.started_at.timestamp() if status.started_at else None,
        ended_at=status.ended_at.timestamp() if status.ended_at else None,
    )
