"""Draining the stream that upstream services write plain events to on Redis."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from workers.cancellation import raise_if_cancelled
from workers.ingest.admission import Admission, Work
from workers.ingest.drain_lease import DrainLease
from workers.lanes.wary import WaryPool

log = logging.getLogger(__name__)

FIELD = b"event"
BATCH = 300
BATCH_BYTES = 8 * 1024 * 1024
BLOCK = timedelta(seconds=1)
LEASE = timedelta(seconds=3)
PAUSE_SECONDS = 0.2
FIRST = b"0-0"

Entry = tuple[bytes, dict[bytes, bytes]]


def connect_ingress(url: str) -> Redis:
    """A client of its own for the drain: its blocking read must not take a connection from anybody else."""
    pool = WaryPool.from_url(
        url,
        max_connections=4,
        timeout=5,
        socket_timeout=BLOCK.total_seconds() + 2,  # longer than the blocking read
        socket_connect_timeout=3,
        socket_keepalive=True,
        health_check_interval=15,
        retry=Retry(NoBackoff(), 0),  # the loop below is the retry
    )
    return Redis.from_pool(pool)


class Ingress:
    """Moves entries of the stream `<prefix>:ingress` to the intake, oldest first; each is deleted once it is kept.

    There is no consumer group: an entry that is in the stream is not yet kept, so a new drainer just begins at the
    oldest one, and nothing needs to be claimed. Order holds even if a stale drainer goes on for a moment beside its
    successor: each works through the same entries oldest first and accepting twice is accepting once, so no event
    is ever accepted before all that were published before it.
    """

    def __init__(
        self, client: Redis, stream: str, admission: Admission, *, owner: str, lease: timedelta = LEASE
    ) -> None:
        self._client, self._stream, self._admission = client, stream, admission
        self._lease = DrainLease(client, f"{stream}:lease", owner, lease)
        self._cursor = FIRST
        self._count = BATCH

    async def run(self) -> None:
        """Drain whenever the lease is ours, until cancelled; then give the lease back and close the client."""
        try:
            while True:
                raise_if_cancelled()
                await self._lease.acquire()
                try:
                    async with self._lease.kept():
                        await self._drain()
                except TimeoutError:
                    continue  # another worker drains now
                except Exception as error:  # noqa: BLE001  # a loop guard; what was not kept is still in the stream
                    log.warning("ingress_failed", extra={"stream": self._stream, "error": type(error).__name__})
                    await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await asyncio.shield(self._close())

    async def _close(self) -> None:
        await self._lease.release()
        await self._client.aclose()

    async def _drain(self) -> None:
        """Read and check ahead by one batch while the batch before is being accepted, and delete behind it."""
        self._cursor = FIRST
        reading, deleting = asyncio.create_task(self._read()), None
        try:
            while True:
                batch = await reading
                raise_if_cancelled()
                reading = asyncio.create_task(self._read())
                if batch is not None:
                    await self._admission.settle(batch.work)
                    if deleting is not None:
                        await deleting
                    deleting = asyncio.create_task(self._delete(batch.ids))
        finally:
            unfinished = [task for task in (reading, deleting) if task is not None]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _read(self) -> "_Batch | None":
        """The entries after the cursor; waits for one when there is none."""
        answer = await self._client.xread({self._stream: self._cursor}, count=self._count, block=_milliseconds(BLOCK))
        entries = _entries(answer)
        # After a quiet moment it begins at the oldest again: ids start over when the stream was lost with its server.
        self._cursor = entries[-1][0] if entries else FIRST
        return self._batch(entries) if entries else None

    def _batch(self, entries: Sequence[Entry]) -> "_Batch":
        source = f"stream {self._stream}"
        bodies = [fields[FIELD] for _, fields in entries if FIELD in fields]
        work = self._admission.parse(bodies, source=source)
        for entry_id, fields in entries:
            if FIELD not in fields:
                raw = repr((entry_id, fields)).encode()
                work.letters.append(self._admission.letter(raw, "the entry has no field 'event'", source=source))
        average_bytes = sum(map(len, bodies)) // len(entries) + 1
        self._count = max(1, min(BATCH, BATCH_BYTES // average_bytes))
        return _Batch([entry_id for entry_id, _ in entries], work)

    async def _delete(self, ids: Sequence[bytes]) -> None:
        await self._client.xdel(self._stream, *ids)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Entries of the stream, checked."""

    ids: Sequence[bytes]
    work: Work


def _entries(answer: Any) -> Sequence[Entry]:
    """The entries of an XREAD of one stream, in either protocol version's shape."""
    if not answer:
        return []
    if isinstance(answer, Mapping):
        (batches,) = answer.values()
        return [entry for batch in batches for entry in batch]
    ((_, entries),) = answer
    return list(entries)


def _milliseconds(duration: timedelta) -> int:
    return int(duration / timedelta(milliseconds=1))
