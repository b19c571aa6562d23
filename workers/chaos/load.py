"""The load of a run: users who talk, each event followed by clients of every habit."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.chaos.clients import Client, Habit
from workers.chaos.publishers import Message, Publishers, Way
from workers.chaos.records import Case, Recorder
from workers.chaos.settings import TENANT
from workers.chaos.story import CaseText, Kind

PAUSE_SECONDS = (0.3, 1.2)
MESSAGES = (2, 4)
WORDS = (12, 40)
LONG_WORDS = 60
TALKERS = 4
HTTP_SHARE = 0.5
FLAW_SHARE, CANCEL_SHARE, DUPLICATE_SHARE = 0.06, 0.08, 0.15
SECOND_CLIENT_SHARE = 0.5
HABITS = (Habit.RECONNECTING, Habit.SLOW, Habit.LEAVING)
RECENT = 40


@dataclass(slots=True)
class Load:
    """Publishes until it is told to stop. Everything is drawn from `chance`, in each talker's own order."""

    seed: int
    publishers: Publishers
    recorder: Recorder
    gateways: Sequence[str]
    cases: dict[str, Case] = field(default_factory=dict)
    flaws: list[Message] = field(default_factory=list)
    recent: list[Message] = field(default_factory=list)
    readers: set[asyncio.Task[None]] = field(default_factory=set)
    habits: list[Habit] = field(default_factory=list)
    """Habits that the next clients take on, put there by faults."""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: int = 0

    async def run(self, talkers: int = TALKERS) -> None:
        """Talk until `stop`, and until what was published is acknowledged."""
        async with asyncio.TaskGroup() as group:
            for number in range(talkers):
                group.create_task(self._talk(random.Random(f"{self.seed} {number}"), f"u{number}"))

    def stop(self) -> None:
        """Publish nothing new."""
        self._stopping.set()

    async def close(self) -> None:
        """Let the clients go."""
        for reader in self.readers:
            reader.cancel()
        await asyncio.gather(*self.readers, return_exceptions=True)

    def follow(self, message: Message, habit: Habit = Habit.STEADY) -> None:
        """Let a client follow an event."""
        name = f"c{len(self.readers)}-{habit}"
        client = Client(
            name, message.event_id, self.gateways, habit, self.recorder, self.publishers.http, random.Random(name)
        )
        self.readers.add(asyncio.create_task(client.follow(), name=name))

    def note(self, message: Message, phase: str = "") -> None:
        """Write a case down, before it is published."""
        case = Case(
            event_id=message.event_id,
            tag=message.case.tag,
            tenant=message.tenant,
            user=message.user,
            thread_id=message.thread,
            reference=message.case.reference,
            trace_id=message.trace_id,
            phase=phase,
        )
        self.cases[case.event_id] = case
        self.recorder.write(case)
        if message.case.kind is Kind.FLAW:
            self.flaws.append(message)
        self.recent = [*self.recent[-RECENT:], message]

    async def publish_flaw(self, chance: random.Random) -> Message:
        """Publish an event that goes dead."""
        message = self._message(chance, "flawed", Kind.FLAW, None, "http")
        await self._send(message, chance)
        return message

    async def _talk(self, chance: random.Random, user: str) -> None:
        await asyncio.sleep(chance.uniform(0, PAUSE_SECONDS[1]))
        while not self._stopping.is_set():
            if chance.random() < FLAW_SHARE:
                await self.publish_flaw(chance)
            await self._converse(chance, user)

    async def _converse(self, chance: random.Random, user: str) -> None:
        """One conversation; the next message does not wait for the answer."""
        thread_id: str | None = None
        way: Way = "http" if chance.random() < HTTP_SHARE else "queue"  # two ways would swap its messages now and then
        for _ in range(chance.randint(*MESSAGES)):
            if self._stopping.is_set():
                return
            message = self._message(chance, user, chance.choice([Kind.PLAIN, Kind.TOOL]), thread_id, way)
            if not await self._send(message, chance):
                return
            thread_id = message.thread
            if chance.random() < CANCEL_SHARE:
                await asyncio.sleep(chance.uniform(0, 0.5))
                await self.publishers.cancel(message)
            await asyncio.sleep(chance.uniform(*PAUSE_SECONDS))

    def _message(self, chance: random.Random, user: str, kind: Kind, thread_id: str | None, way: Way) -> Message:
        self._numbers += 1
        words = LONG_WORDS if chance.random() < CANCEL_SHARE else chance.randint(*WORDS)
        case = CaseText(f"s{self.seed}n{self._numbers}", kind, words)
        return Message(case, user, way, thread_id, TENANT, trace_id=f"{chance.getrandbits(128) | 1:032x}")

    async def _send(self, message: Message, chance: random.Random) -> bool:
        self.note(message)
        self.follow(message)
        if chance.random() < SECOND_CLIENT_SHARE or self.habits:
            self.follow(message, self.habits.pop() if self.habits else chance.choice(HABITS))
        acknowledged = await self.publishers.publish(message)
        if acknowledged and chance.random() < DUPLICATE_SHARE:
            await self.publishers.once(message)
        return acknowledged
