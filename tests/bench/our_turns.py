"""A turn as the worker runs it (lane, lease, policies, ChatKit server, SQL, frames on a real Redis), without Celery.

A program of its own, so that its CPU time is its alone. Prints one JSON object.
"""

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta

from agents import Model

from tests.bench.sizes import Sizes
from tests.bench.stack import Stack
from tests.bench.unfenced import take_durability_away
from tests.builders import create_event
from tests.forked import ROOT
from workers import runtime
from workers.agents.scripted import ScriptedModel
from workers.broker import sending_app
from workers.lanes.records import Wake
from workers.pool.interpreter import tune_interpreter
from workers.routing import default_queue
from workers.runner import EventRunner, Verdict
from workers.settings import Settings, load_settings
from workers.testing.model import DeltaModel


class NoWaker(runtime.CeleryWaker):  # type: ignore[name-defined,misc]  # a name that it imports
    """Nobody is woken: the loop below runs every event itself."""

    async def wake(self, wakes: Sequence[Wake]) -> None:
        return None


TEXTS = {"deltas": "hi", "script": "Where is my order 1042?"}
"""What is asked, by the model that answers it: the script hands over and looks the order up."""


def measure(parts: Stack, sizes: Sizes, together: int, *options: str) -> float:
    """CPU seconds of one turn, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.our_turns", "--turns", str(sizes.cpu_turns)]
    command += ["--deltas", str(sizes.deltas), "--together", str(together), *options]
    environment = {**os.environ, **parts.environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, timeout=600)
    return float(json.loads(done.stdout)["cpu_seconds"])


async def cpu_per_turn(turns: int, deltas: int, together: int, model: str) -> dict[str, float]:
    """CPU seconds of one turn, `together` of them at a time."""

    def build(_: Settings, *__: object, **___: object) -> Model:
        return ScriptedModel(word_delay=timedelta(0)) if model == "script" else DeltaModel(deltas)

    # the composition root takes its model and its waker from these names
    runtime.build_model = build  # type: ignore[attr-defined,assignment]  # a double
    runtime.CeleryWaker = NoWaker  # type: ignore[attr-defined]  # same
    settings = load_settings()
    async with runtime.open_core(settings, sending_app(settings)) as core, runtime.worker_runtime(core) as worker:
        await core.database.upgrade()
        events = [create_event(TEXTS[model], source="/bench") for _ in range(turns + 1)]
        await core.lanes.accept([(event, default_queue(event)) for event in events])
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
    parser.add_argument("--model", choices=list(TEXTS), default="deltas")
    parser.add_argument("--without-durability", action="store_true")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    if asked.without_durability:
        take_durability_away()
    print(json.dumps(asyncio.run(cpu_per_turn(asked.turns, asked.deltas, asked.together, asked.model))))


if __name__ == "__main__":
    main()
