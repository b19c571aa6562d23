"""Threads for events to stand in, made the way everything is made here: by turns. Made once, copied to each stack."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from schemas.outcome import EventState
from tests.bench.stack import MODEL_APP, Stack, stack, until
from tests.builders import create_event
from workers.lanes.lanes import Lanes
from workers.publisher import Publisher


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads of user u1, in a database file that is copied into the stacks that need them."""

    ids: list[str]
    database: Path

    def put_into(self, parts: Stack) -> None:
        shutil.copy(self.database, parts.database_file)


def make_threads(count: int, folder: Path) -> Threads:
    """Run `count` turns that each create a thread, and keep the database in `folder`."""
    events = [create_event("hi", source="/bench/threads") for _ in range(count)]
    with stack() as parts:
        parts.migrate()
        with Publisher(parts.broker_url) as publisher:
            publisher.publish_many(events)

        async def all_done(lanes: Lanes) -> bool:
            return (await lanes.depth()).states[EventState.DONE] == count

        worker = parts.worker(MODEL_APP, BENCH_DELTAS="1")
        until(parts, all_done, within=300)
        worker.stop()  # the last to close the database writes its log into the file
        database = Path(shutil.copy(parts.database_file, folder))
    return Threads([event.thread_id for event in events if event.thread_id is not None], database)
