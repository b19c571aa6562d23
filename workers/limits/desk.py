"""The desk: what a worker's turns ask of the limits, and the wake-ups that come of what becomes free."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from schemas.outcome import ParkReason
from workers.cancellation import raise_if_cancelled
from workers.errors import DeferredError, LeaseLostError, LimiterAwayError, OverloadError
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.lanes import Lanes
from workers.lanes.records import Wake
from workers.limits.limiter import Limiter
from workers.limits.models import Models
from workers.limits.room import Room
from workers.policies.delivery import Delivery
from workers.policies.rate_limit import InLine, Reserved, Used
from workers.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(seconds=60)
"""Of a turn between two of its calls. While it waits it holds its place in the worker and in flight, but it ends sooner
than if it went back to the line and on from its journal; beyond this the place counts for more. One request a minute,
the least that anybody sets, is still waited for."""

LINE = frozenset({ParkReason.RATE_LIMIT, ParkReason.CIRCUIT_OPEN, ParkReason.RETRY_BUDGET})
"""What an event was parked for that stood in line."""

UNUSED = Used(0, 0, 0, "neutral")
LOOK_AGAIN_SECONDS = 0.25
ROUNDS = 50
"""Of grants in a row that find nobody: each hands on to the next in line."""

CLOSE_SECONDS = 2.0
CORRECT_EVERY_SECONDS = 0.1


class LimitDesk:
    """Implements `workers.policies.rate_limit.Limits` for one process."""

    def __init__(
        self,
        limiter: Limiter,
        lanes: Lanes,
        wake: Callable[[Sequence[Wake]], Awaitable[None]],
        *,
        models: Models,
        lease: timedelta = LEASE,
        on_stale: Callable[[str], None] = lambda _: None,
        longest_pause: timedelta = LONGEST_PAUSE,
        metrics: Metrics | None = None,
    ) -> None:
        """`lease`: how long a reservation outlives its worker; longer than a lane's, whose next one takes it over.
        `on_stale` is told of an event whose reservation a later run holds by now. `longest_pause` is how long a turn
        waits between two of its calls before it goes back to the line."""
        self._limiter, self._lanes, self._wake, self._on_stale = limiter, lanes, wake, on_stale
        self._longest_pause, self._metrics = longest_pause, metrics or Metrics()
        self._models, self._lease = models, lease
        self._held: set[Reserved] = set()
        self._room = Room()
        self._corrected: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def reserve(self, delivery: Delivery) -> Reserved | InLine:
        """Reserve all that the run needs, or stand in line. Raises OverloadError while this process has no room."""
        if self._room.is_full(len(self._held)):
            raise OverloadError("no free connection in this process", kind="PoolTimeout")
        event, lease = delivery.event, delivery.lease
        ask = self._models.ask_of(event, lease.lane, delivery.queue, again=delivery.attempt > 1)
        asking = asyncio.ensure_future(self._limiter.reserve(ask, lease.token, self._lease))
        try:
            with _away():
                answer = await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._start(self._give_back(asking))  # the script may have run, and nobody would settle what it took
            raise
        if delivery.waited is not None and delivery.waited.parked in LINE:
            self._metrics.limit_wait.labels(answer.model).observe(delivery.waited.seconds)
        if isinstance(answer, Reserved):
            self._held.add(answer)
        return answer

    async def next_call(self, reserved: Reserved, number: int) -> None:
        """Charge one more call, and wait until it may be made. Raises DeferredError when that takes too long: then it
        is not charged."""
        with _away():
            pause = await self._limiter.next_call(reserved, number, self._longest_pause)
        if pause > self._longest_pause:
            raise DeferredError("the limits leave no room for the next call of this turn", retry_after=pause)
        if pause:
            self._metrics.limit_wait.labels(reserved.model).observe(pause.total_seconds())
        await asyncio.sleep(pause.total_seconds())

    async def settle(self, reserved: Reserved, used: Used) -> None:
        """Say what was used; who gets what became free is woken meanwhile."""
        if used.verdict == "overload":  # of this process: it says nothing about the provider
            self._room.cut(len(self._held))
            used = replace(used, verdict="neutral", calls=max(0, used.calls - 1))  # the last one was not made
        self._held.discard(reserved)
        try:
            grants = await self._limiter.settle(reserved, used)
        except STATE_ERRORS as error:
            log.warning("limits_not_settled", extra={"event_id": reserved.event_id, "error": type(error).__name__})
            return
        except LeaseLostError:
            self._on_stale(reserved.event_id)
            return
        if grants:
            self._start(self.hand_out(grants))

    def correct(self, model: str, headers: Mapping[str, str]) -> None:
        """Tell every worker what the provider says remains; at most ten times a second."""
        requests, tokens = (_remaining(headers, kind) for kind in ("requests", "tokens"))
        now = asyncio.get_running_loop().time()
        if (requests is None and tokens is None) or now - self._corrected.get(model, 0) < CORRECT_EVERY_SECONDS:
            return
        self._corrected[model] = now
        self._start(self._limiter.correct(model, requests, tokens))

    async def grant(self) -> None:
        """Hand out what has become free. What those were granted that do not wait any more goes to the next in line."""
        for _ in range(ROUNDS):
            if not await self.hand_out(await self._limiter.grant()):
                return

    async def hand_out(self, grants: Sequence[Wake], looks: int = 4) -> bool:
        """Wake events that were granted; what does not wait any more gives its grant back. Says whether any did."""
        if not grants:
            return False
        answers = list(zip(grants, await self._lanes.rouse(grants), strict=True))
        await self._wake([grant for grant, answer in answers if answer == "wake"])
        gone = [grant.event_id for grant, answer in answers if answer == "gone"]
        if gone:
            await self._limiter.leave(gone)
        coming = [grant for grant, answer in answers if answer == "coming"]
        if coming and looks:  # it may be about to park: it stood in line a moment before it settles
            self._start(self._hand_out_soon(coming, looks - 1))
        return bool(gone)

    def forget(self, event_ids: Sequence[str]) -> None:
        """Take events out of the line that have ended without a run. Nobody waits for it, and it may be lost: the grant
        of an event that has ended finds it gone."""
        if event_ids:
            self._start(self._limiter.leave(event_ids))

    async def _hand_out_soon(self, grants: Sequence[Wake], looks: int) -> None:
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        await self.hand_out(grants, looks)

    async def run(self) -> None:
        """Renew what this process holds until cancelled."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            try:
                async with asyncio.timeout(self._lease.total_seconds() / 3):
                    await self._limiter.renew(list(self._held), self._lease)
            except STATE_ERRORS as error:
                log.warning("limits_not_renewed", extra={"count": len(self._held), "error": type(error).__name__})
            raise_if_cancelled()

    async def close(self) -> None:
        """Wait a moment for what was begun and nobody waits for."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()

    async def _give_back(self, asking: asyncio.Future[Reserved | InLine]) -> None:
        answer = await asking
        if isinstance(answer, Reserved):
            await self.settle(answer, UNUSED)

    def _start(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextmanager
def _away() -> Iterator[None]:
    """Fail closed: while nobody knows what is left, no model is called."""
    try:
        yield
    except STATE_ERRORS as error:
        raise LimiterAwayError("the limits cannot be asked", kind=type(error).__name__) from None


async def _logged(work: Awaitable[object]) -> None:
    """Work that may be lost: a grant that nobody takes up, or a correction, comes again."""
    try:
        await work
    except STATE_ERRORS as error:
        log.warning("limits_not_told", extra={"error": type(error).__name__})


def _remaining(headers: Mapping[str, str], kind: str) -> int | None:
    value = headers.get(f"x-ratelimit-remaining-{kind}", "")
    return int(value) if value.isdecimal() else None
