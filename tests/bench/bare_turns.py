"""The baseline of (b) and (d): the bare `Runner.run_streamed` + `stream_agent_response` loop with the same model.

A program of its own, so that its CPU time and memory are its alone. Prints one JSON object.
"""

import argparse
import asyncio
import json
import os
import time
from datetime import timedelta

import psutil
from agents import Agent, RunConfig, Runner, set_tracing_disabled
from chatkit.agents import AgentContext, stream_agent_response

from tests.unit.agents.turns import FakeTurn, new_context
from workers.testing.model import DeltaModel

QUESTION = "Where is my order 4711?"


async def one_turn(model: DeltaModel) -> int:
    """One turn as a stock server runs it, up to the bytes of its frames; how many frames."""
    context = new_context()
    agent: Agent[AgentContext[FakeTurn]] = Agent(name="Bare", instructions="Answer.", model=model)
    run = Runner.run_streamed(agent, QUESTION, context=context, run_config=RunConfig(tracing_disabled=True))
    frames = 0
    async for event in stream_agent_response(context, run):
        frames += len(b"data: " + event.model_dump_json().encode() + b"\n\n") > 0
    return frames


async def cpu_per_turn(turns: int, deltas: int, together: int) -> dict[str, float]:
    """CPU seconds of one turn, `together` of them at a time."""
    model = DeltaModel(deltas)
    await one_turn(model)  # the first one loads code
    started = time.process_time()
    left = iter(range(turns))

    async def lane() -> None:
        for _ in left:
            await one_turn(model)

    await asyncio.gather(*(lane() for _ in range(together)))
    return {"cpu_seconds": (time.process_time() - started) / turns}


async def memory_in_flight(turns: int) -> dict[str, float]:
    """Memory before and while so many turns wait for their model."""
    await one_turn(DeltaModel(3))
    idle = psutil.Process(os.getpid()).memory_info().rss
    model = DeltaModel(3, delay=timedelta(hours=1))
    waiting = [asyncio.create_task(one_turn(model)) for _ in range(turns)]
    while model.calls < turns:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    in_flight = psutil.Process(os.getpid()).memory_info().rss
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return {"idle_mb": idle / 1e6, "in_flight_mb": in_flight / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("measure", choices=["cpu", "memory"])
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--deltas", type=int, default=300)
    parser.add_argument("--together", type=int, default=20)
    asked = parser.parse_args()
    set_tracing_disabled(True)
    if asked.measure == "cpu":
        answer = asyncio.run(cpu_per_turn(asked.turns, asked.deltas, asked.together))
    else:
        answer = asyncio.run(memory_in_flight(asked.turns))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
