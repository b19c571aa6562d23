"""A tenant that floods, beside one that says something now and then: how long does that one wait?"""

import asyncio
from datetime import UTC, datetime, timedelta

from workers.chaos.load import Load
from workers.chaos.publishers import Message
from workers.chaos.story import CaseText, Kind

MESSAGES = 6
EVERY_SECONDS = 0.25
TIMES = 100
WORDS = 2
TOGETHER = 32
EXPIRES = timedelta(seconds=3)
"""What of the flood is not answered by then need not be: it is dropped, for the run to go on."""


async def flood(load: Load) -> None:
    """The quiet tenant alone, then beside a hundred times as many events of another one."""
    await _speak(load, "alone")
    await asyncio.gather(_pour(load), _speak(load, "beside"))


async def _speak(load: Load, phase: str) -> None:
    for number in range(MESSAGES):
        message = Message(CaseText(f"{phase}{number}", Kind.PLAIN, WORDS), f"{phase}{number}", tenant="quiet")
        load.note(message, phase)
        load.follow(message)
        await load.publishers.publish(message)
        await asyncio.sleep(EVERY_SECONDS)


async def _pour(load: Load) -> None:
    expires_at = (datetime.now(UTC) + EXPIRES).isoformat()
    messages = [
        Message(CaseText(f"flood{n}", Kind.PLAIN, WORDS), f"f{n}", "queue", tenant="flood", expires_at=expires_at)
        for n in range(MESSAGES * TIMES)
    ]
    for message in messages:
        load.note(message, "flood")
    at_once = asyncio.Semaphore(TOGETHER)

    async def publish(message: Message) -> None:
        async with at_once:
            await load.publishers.publish(message)

    await asyncio.gather(*(publish(message) for message in messages))
