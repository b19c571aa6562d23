"""The process of a quarantine: `python -m workers.quarantined BYTES`. Reads deliveries, runs each, answers its outcome.

It ends when its parent does, since its input ends then.
"""

import asyncio
import os
import resource
import sys
from contextlib import closing

from workers.broker import sending_app
from workers.quarantine import delivery_of_line, line_of_outcome
from workers.runtime import open_core, turn_runtime
from workers.settings import load_settings
from workers.telemetry.worker import install as install_telemetry


def main() -> None:
    """Run until the input ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever is printed in here is no answer
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    asyncio.run(serve(answers))


async def serve(answers: int) -> None:
    """Run one delivery after another."""
    settings = load_settings()
    dsn = settings.sentry_dsn
    install_telemetry(level=settings.log_level, sentry_dsn=dsn.get_secret_value() if dsn else None)
    with closing(sending_app(settings)) as app:
        async with open_core(settings, app) as core, turn_runtime(core) as turns:
            while line := await asyncio.to_thread(sys.stdin.buffer.readline):
                outcome = await turns.dispatcher(delivery_of_line(line))
                os.write(answers, line_of_outcome(outcome))


if __name__ == "__main__":
    main()
