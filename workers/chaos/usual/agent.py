"""The agents of the usual way, and one run of them."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

from workers import failpoints
from workers.chaos.records import Effect, line_of
from workers.failpoints import FailPoint

MODEL = "gpt-4.1"


@function_tool
def look_up_record(kind: str, key: str) -> str:
    """Look up a record of the user.

    Args:
        kind: Kind of the record.
        key: Its number.
    """
    line = line_of(Effect(key, None, os.environ["CHAOS_NAME"], time.time()))
    with (Path(os.environ["CHAOS_RECORDS"]) / "Effect.jsonl").open("a") as file:
        file.write(line)
    failpoints.hit(FailPoint.AFTER_TOOL_EFFECT, subject=key)
    return f"{kind} {key} is shipped"


def team_on(model: OpenAIResponsesModel) -> Agent[Any]:
    """An agent that hands orders off."""
    services: Agent[Any] = Agent(name="Service Orchestrator Agent", model=model, tools=[look_up_record])
    return Agent(name="Assistant", model=model, handoffs=[services])


async def stream(messages: list[Any], seconds: float) -> AsyncIterator[dict[str, Any]]:
    """One answer as the frames that a ChatKit client knows."""
    set_tracing_disabled(True)
    client = AsyncOpenAI(timeout=seconds, max_retries=2)
    failpoints.hit(FailPoint.BEFORE_MODEL_CALL, 0)
    run = Runner.run_streamed(
        team_on(OpenAIResponsesModel(MODEL, client)), messages, run_config=RunConfig(tracing_disabled=True)
    )
    chunk = 0
    async for event in run.stream_events():
        if event.type == "raw_response_event":
            frame = frame_of(event.data)
            if frame is not None:
                yield frame
            failpoints.hit(FailPoint.AFTER_MODEL_CHUNK, chunk)
            chunk += 1
    failpoints.hit(FailPoint.AFTER_MODEL_RESPONSE)


def frame_of(data: Any) -> dict[str, Any] | None:
    """What is shown of an event of the model."""
    match data.type:
        case "response.output_item.added" if data.item.type == "message":
            return {"type": "thread.item.added", "item": message(data.item.id, "")}
        case "response.output_text.delta":
            update = {"type": "assistant_message.content_part.text_delta", "content_index": 0, "delta": data.delta}
            return {"type": "thread.item.updated", "item_id": data.item_id, "update": update}
        case "response.output_item.done" if data.item.type == "message":
            return {"type": "thread.item.done", "item": message(data.item.id, data.item.content[0].text)}
        case _:
            return None


def message(id_: str, text: str) -> dict[str, Any]:
    return {"type": "assistant_message", "id": id_, "content": [{"type": "output_text", "text": text}]}
