"""The process of a quarantine: `python -m workers.quarantined BYTES`. Reads deliveries, runs each, answers its outcome.

It ends when its parent does, since its input ends then, and of no signal that is meant for the parent.
"""

import asyncio
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import closing

from workers.broker import sending_app
from workers.quarantine import TAKEN, delivery_of_line, line_of_outcome
from workers.runner import context_of
from workers.runtime import open_core, told_metrics, turn_runtime
from workers.settings import load_settings
from workers.telemetry.logging import configure_logging
from workers.telemetry.otlp import init_tracing
from workers.telemetry.sentry import init_sentry


def main() -> None:
    """Run until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever is printed in here is no answer
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    asyncio.run(serve(answers))


async def serve(answers: int) -> None:
    """Run one delivery after another."""
    settings = load_settings()
    configure_logging(settings.log_level)
    init_sentry(role="quarantine", **settings.sentry_options)
    init_tracing(role="quarantine", **settings.tracing_options)
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    with closing(sending_app(settings)) as app:
        async with (
            open_core(settings, app) as core,
            told_metrics(core) as metrics,
            turn_runtime(core, metrics) as turns,
        ):
            put = lines.put_nowait
            reading = threading.Thread(target=read, args=(lambda line: loop.call_soon_threadsafe(put, line),))
            reading.daemon = True
            reading.start()
            while True:
                line = await lines.get()
                os.write(answers, TAKEN)
                delivery = delivery_of_line(line)
                with context_of(delivery):
                    outcome = await turns.dispatcher(delivery)
                os.write(answers, line_of_outcome(outcome))


def read(put: Callable[[bytes], object]) -> None:
    """Pass on what comes in, in a thread of its own: an event that keeps the loop busy must not outlive the parent.
    When the input ends, so does the process, at once: whatever it still did would be refused."""
    for line in sys.stdin.buffer:
        put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
