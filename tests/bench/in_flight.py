"""(b) Turns in flight in one process: memory over idle, while each waits for its model."""

import time

from schemas.outcome import EventState
from tests.bench.bare import measure_bare
from tests.bench.paces import SLOW_WORD
from tests.bench.sizes import Sizes
from tests.bench.stack import MODEL_APP, rss_mb, stack, until
from tests.bench.table import Line, Table
from tests.builders import create_event
from workers.lanes.lanes import Lanes
from workers.publisher import Publisher

TARGET_MB = 150.0


def run(sizes: Sizes) -> list[Table]:
    turns = sizes.turns_in_flight
    bare = measure_bare("memory", turns=turns)
    with stack() as parts:
        parts.migrate()
        environment = {"CHATKIT_CONCURRENCY": str(turns + 100), "BENCH_SLOW_SECONDS": "3600"}
        worker = parts.worker(MODEL_APP, **environment)
        with Publisher(parts.broker_url) as publisher:
            publisher.publish(create_event("hi", source="/bench"))  # the first one loads code, in the baseline as well

            async def warm(lanes: Lanes) -> bool:
                return (await lanes.depth()).states[EventState.DONE] == 1

            until(parts, warm, within=60)
            time.sleep(1)  # the pool, the sweeper and the subscriptions have settled
            idle = rss_mb(worker.pid)
            publisher.publish_many(create_event(SLOW_WORD, source="/bench") for _ in range(turns))

        async def all_running(lanes: Lanes) -> bool:
            return (await lanes.depth()).states[EventState.RUNNING] == turns

        until(parts, all_running, within=120)
        time.sleep(2)  # begun is not yet waiting for the model
        in_flight = rss_mb(worker.pid)
    over, bare_over = in_flight - idle, bare["in_flight_mb"] - bare["idle_mb"]
    lines = [
        Line("bare Runner loop in one process, over idle", f"{bare_over:.0f} MB"),
        Line("worker, idle", f"{idle:.0f} MB"),
        Line("worker, in flight, over idle", f"{over:.0f} MB", f"<= {TARGET_MB:g} MB at 1,000", over <= TARGET_MB),
        Line("per turn", f"{over / turns * 1000:.0f} kB"),
    ]
    return [Table(f"(b) {turns:,} turns in flight", "one worker process, each turn waits for its model", lines)]
