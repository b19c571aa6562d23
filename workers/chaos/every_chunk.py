"""Killing the worker after one certain chunk of an answer: one run for each place, in one deployment."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from workers.chaos.checker.effects import effects_of
from workers.chaos.clients import Client, Habit
from workers.chaos.conduct import loaded
from workers.chaos.deployment import Deployment
from workers.chaos.load import Load
from workers.chaos.model_server import worker_of
from workers.chaos.publishers import Message
from workers.chaos.records import Effect, Frame, Record, parse_lines
from workers.chaos.screen import Screen
from workers.chaos.story import LOOK_UP, PREAMBLE, TRANSFER, CaseText, Kind, said
from workers.failpoints import Action, Entry, FailPoint
from workers.testing.provider_steps import Step, Text, Tool
from workers.testing.provider_wire import events_of

WORDS = 60
ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ChunkRun:
    """What came of one run. `killed`: whose worker died of it; `workers` have called the model for it."""

    index: int
    case: CaseText
    killed: str
    text: str
    torn: bool
    effects: int
    model_calls: int
    workers: int

    @property
    def allowed_calls(self) -> int:
        """One more than it takes for each worker that did not finish: the killed one. (On a machine that is too busy to
        renew a lease in time another may lose the turn as well.)"""
        return self.case.steps + max(1, self.workers - 1)

    @property
    def faults(self) -> list[str]:
        """What is not as it has to be."""
        return [
            *([] if self.killed else ["no worker was killed"]),
            *([] if self.text == self.case.reference else [f"the client has {self.text!r}"]),
            *(["a message ended as something else than was streamed of it"] if self.torn else []),
            *([] if self.effects == 1 else [f"the tool took effect {self.effects} times"]),
            *([] if self.model_calls <= self.allowed_calls else [f"{self.model_calls} calls of the model"]),
        ]


def chunks() -> int:
    """How many chunks the models of one answer stream."""
    case = CaseText("x", Kind.FULL, WORDS)
    steps: list[Step] = [Tool(TRANSFER, say=said(case, 0, PREAMBLE)), Tool(LOOK_UP, say=said(case, 0, PREAMBLE))]
    steps.append(Text(said(case, 2 * PREAMBLE, WORDS)))
    return sum(len(list(events_of(step, 1))) for step in steps)


async def kill_at_each(deployment: Deployment, indexes: Iterable[int]) -> AsyncIterator[ChunkRun]:
    """An answer for each place, whose worker dies there; the next one begins when all workers are back."""
    async with loaded(deployment) as load:
        for index in indexes:
            await deployment.processes.until_ready()
            yield await _kill_at(deployment, load, index)


async def _kill_at(deployment: Deployment, load: Load, index: int) -> ChunkRun:
    case = CaseText(f"k{index}", Kind.FULL, WORDS)
    message = Message(case, f"user{index}")
    memory = Memory()
    client = Client(
        "c", message.event_id, deployment.gateway_urls, Habit.STEADY, memory, load.publishers.http, random.Random(index)
    )
    entry = Entry(FailPoint.AFTER_MODEL_CHUNK, Action.KILL, index)
    killing = asyncio.create_task(deployment.fail_points.passed(entry, ANSWER_SECONDS))
    await asyncio.sleep(0)  # armed before anything runs
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await load.publishers.publish(message)
            await client.follow()
            passed = await killing
    except TimeoutError:
        passed = None
    finally:
        killing.cancel()
    calls = deployment.model.calls_of(case.tag)
    return ChunkRun(
        index=index,
        case=case,
        killed=deployment.processes.name_of(passed.pid) if passed else "",
        text=memory.screen.text,
        torn=bool(memory.screen.torn or memory.screen.repeated),
        effects=effects_of([effect for effect in _effects(deployment.folder) if effect.call == case.tag]),
        model_calls=len(calls),
        workers=len({worker_of(call) for call in calls}),
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Keeps the screen of one client instead of a file."""

    screen: Screen = field(default_factory=Screen)

    def write(self, *records: Record) -> None:
        self.screen.see(record.data for record in records if isinstance(record, Frame))


def _effects(folder: Path) -> list[Effect]:
    file = folder / "records" / "Effect.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [record for record in parse_lines(lines) if isinstance(record, Effect)]
