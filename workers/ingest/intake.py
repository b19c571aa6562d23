"""Group commit of events from every way in: what is handed over while a batch is in flight is the next batch."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from schemas.events import Event
from workers import failpoints
from workers.cancellation import raise_if_cancelled
from workers.errors import TransientError
from workers.failpoints import FailPoint
from workers.ingest.ports import IntakeLanes
from workers.ingest.rounds import LightRounds, is_light, set_to
from workers.lanes.ports import Waker
from workers.lanes.records import Accepted, Refused, Wake

log = logging.getLogger(__name__)

BATCH = 300
CLOSE_SECONDS = 5.0
SPACING_SECONDS = 0.02
"""Between the beginnings of two batches that are not full. An event that comes alone waits for nothing; of a stream of
single ones each batch takes what came meanwhile, for a batch of ten costs little more than a batch of one."""

Answer = Accepted | Refused

ToWake = Callable[[Sequence[tuple[Event, Wake]]], Awaitable[Sequence[Wake]]]


async def all_of_them(turns: Sequence[tuple[Event, Wake]]) -> list[Wake]:
    """Where nothing is limited."""
    return [wake for _, wake in turns]


@dataclass(slots=True)
class _Submission:
    """What one caller handed over, and the answers so far."""

    events: Sequence[Event]
    done: asyncio.Future[list[Answer]]
    answers: list[Answer] = field(default_factory=list)
    taken: int = 0


class Intake:
    """Accepts events of all callers on one event loop, in order of submission, at most BATCH to a round trip.

    Heads of lanes that need no model go to the light rounds, the others get a wake-up. One accept is in flight at a
    time: two could swap the order of a thread's events.
    """

    def __init__(
        self,
        lanes: IntakeLanes,
        waker: Waker,
        rounds: LightRounds,
        queue_of: Callable[[Event], str],
        to_wake: ToWake = all_of_them,
    ) -> None:
        """`to_wake` says of the turns at the head of their lanes which to wake; the others wait for a limit."""
        self._lanes, self._waker, self._rounds = lanes, waker, rounds
        self._queue_of, self._to_wake = queue_of, to_wake
        self._waiting: deque[_Submission] = deque()
        self._wanted = asyncio.Event()
        self._plenty = asyncio.Event()
        """A whole batch waits."""
        self._tasks: list[asyncio.Task[None]] = []
        self._accepting = asyncio.Lock()
        self._closed = False

    async def start(self) -> Sequence[asyncio.Task[None]]:
        """Start the two loops, accepting and light rounds; `close` ends them, and nothing else should."""
        self._tasks = [
            asyncio.create_task(self._run(), name="intake"),
            asyncio.create_task(self._rounds.run(), name="light-rounds"),
        ]
        return self._tasks

    async def submit(self, events: Sequence[Event]) -> list[Answer]:
        """Accept events, in order. A duplicate gets the first acceptance; a full lane or system a `Refused`.

        Raises:
            whatever the lanes raise when Redis is away. Some of the events may have been accepted: submit them again.
        """
        if self._closed:
            raise TransientError("the intake is closing")
        if not events:
            return []
        submission = _Submission(events, asyncio.get_running_loop().create_future())
        self._waiting.append(submission)
        self._mark()
        return await submission.done

    async def close(self, within_seconds: float = CLOSE_SECONDS) -> None:
        """Take nothing more, finish what was taken, stop. Callers are to be stopped before; alarms find the rest."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                if self._waiting:
                    await asyncio.wait([submission.done for submission in self._waiting])
                async with self._accepting:  # the batch that is in flight has left the queue already
                    await self._rounds.idle.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail(self._waiting, TransientError("the intake is closing"))
        self._waiting.clear()

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        begun = -SPACING_SECONDS
        while True:
            await self._wanted.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(begun + SPACING_SECONDS - now()):
                    await self._plenty.wait()
            begun = now()
            batch = self._take()
            try:
                async with self._accepting:
                    await self._accept(batch)
                await self._rounds.room()
            except Exception as error:  # noqa: BLE001  # a loop guard; the callers were told in _accept
                log.warning("intake_failed", extra={"count": len(batch), "error": type(error).__name__})
            raise_if_cancelled()

    def _take(self) -> list[tuple[_Submission, Event]]:
        """The next events, oldest submission first. What was handed over together is accepted together: of two accepts
        the first may find the system full and the second not, and then a later event of a lane would overtake."""
        batch: list[tuple[_Submission, Event]] = []
        for submission in self._waiting:
            if batch and len(submission.events) - submission.taken > BATCH - len(batch):
                break
            chosen = submission.events[submission.taken : submission.taken + BATCH]  # all of it, but of a larger one
            batch += [(submission, event) for event in chosen]
            submission.taken += len(chosen)
            if len(batch) >= BATCH:
                break
        while self._waiting and self._waiting[0].taken == len(self._waiting[0].events):
            self._waiting.popleft()
        self._mark()
        return batch

    def _mark(self) -> None:
        """Tell the loop how much waits. No submission that waits is empty, so a batch's number of them says enough."""
        first = islice(self._waiting, BATCH)
        waiting = sum(len(submission.events) - submission.taken for submission in first)
        set_to(self._wanted, waiting > 0)
        set_to(self._plenty, waiting >= BATCH)

    async def _accept(self, batch: Sequence[tuple[_Submission, Event]]) -> None:
        queue_of = self._queue_of
        try:
            answers = await self._lanes.accept([(event, queue_of(event)) for _, event in batch])
        except BaseException as error:
            cause = TransientError("the intake is closing") if isinstance(error, asyncio.CancelledError) else error
            self._give_up({id(submission): submission for submission, _ in batch}.values(), cause)
            raise
        failpoints.hit(FailPoint.AFTER_ACCEPT, subject=batch[0][1].event_id)
        heads: list[Wake] = []
        turns: list[tuple[Event, Wake]] = []
        for (submission, event), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Accepted):
                if not answer.duplicate and is_light(event.type):
                    self._rounds.remember(event)
                if answer.wake is not None and is_light(answer.wake.type):
                    heads.append(answer.wake)
                elif answer.wake is not None:
                    turns.append((event, answer.wake))
            submission.answers.append(answer)
            if len(submission.answers) == len(submission.events) and not submission.done.done():
                submission.done.set_result(submission.answers)
        self._rounds.put(heads)
        if turns:
            await self._waker.wake(await self._to_wake(turns))

    def _give_up(self, submissions: Iterable[_Submission], error: BaseException) -> None:
        """Tell the callers; what is left of their submissions must not overtake what failed."""
        self._fail(submissions, error)
        self._waiting = deque(submission for submission in self._waiting if not submission.done.done())
        self._mark()

    @staticmethod
    def _fail(submissions: Iterable[_Submission], error: BaseException) -> None:
        for submission in submissions:
            if not submission.done.done():
                submission.done.set_exception(error)
