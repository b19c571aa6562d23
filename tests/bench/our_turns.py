"""A turn as the worker runs it (lane, lease, policies, ChatKit server, SQL, frames on a real Redis), without Celery.

A program of its own, so that its CPU time is its alone. Prints one JSON object.
"""

import argparse
import asyncio
import json
import logging
import time
from collections.abc import Sequence

from agents import Model

from tests.builders import create_event
from workers import runtime
from workers.broker import sending_app
from workers.dispatch import queue_of
from workers.lanes.records import Wake
from workers.pool.interpreter import tune_interpreter
from workers.runner import EventRunner, Verdict
from workers.settings import Settings, load_settings
from workers.testing.model import DeltaModel


class NoWaker(runtime.CeleryWaker):  # type: ignore[name-defined,misc]  # a name that it imports
    """Nobody is woken: the loop below runs every event itself."""

    async def wake(self, wakes: Sequence[Wake]) -> None:
        return None


async def cpu_per_turn(turns: int, deltas: int, together: int) -> dict[str, float]:
    """CPU seconds of one turn, `together` of them at a time."""

    def build(_: Settings, *__: object, **___: object) -> Model:
        return DeltaModel(deltas)

    # the composition root takes its model and its waker from these names
    runtime.build_model = build  # type: ignore[attr-defined,assignment]  # a double
    runtime.CeleryWaker = NoWaker  # type: ignore[attr-defined]  # same
    settings = load_settings()
    async with runtime.open_core(settings, sending_app(settings)) as core, runtime.worker_runtime(core) as worker:
        await core.database.upgrade()
        events = [create_event("hi", source="/bench") for _ in range(turns + 1)]
        await core.lanes.accept([(event, queue_of(event)) for event in events])
        tune_interpreter()
        await worker.runner.run(events[0].lane, events[0].event_id)  # the first one loads code
        left = iter(events[1:])
        started = time.process_time()

        async def lane(runner: EventRunner) -> list[Verdict]:
            return [await runner.run(event.lane, event.event_id) for event in left]

        await asyncio.gather(*(lane(worker.runner) for _ in range(together)))
        return {"cpu_seconds": (time.process_time() - started) / turns}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--deltas", type=int, default=300)
    parser.add_argument("--together", type=int, default=20)
    asked = parser.parse_args()
    logging.disable(logging.INFO)
    print(json.dumps(asyncio.run(cpu_per_turn(asked.turns, asked.deltas, asked.together))))


if __name__ == "__main__":
    main()
