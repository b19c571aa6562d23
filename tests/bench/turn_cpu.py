"""(d) CPU of a turn, against the bare loop with the same model in the same run.

`turn` is what runs a turn: lane, lease, policies, ChatKit server, SQL, frames, settlement. `whole worker` is the worker
process with Celery around it: ingest, wake-up, task message, events for Flower.
"""

from schemas.outcome import EventState
from tests.bench.bare import measure_bare
from tests.bench.our_turns import measure
from tests.bench.sizes import Sizes
from tests.bench.stack import MODEL_APP, Stack, cpu_seconds, stack, until
from tests.bench.table import Line, Table
from tests.builders import create_event
from workers.lanes.lanes import Lanes
from workers.publisher import Publisher

TARGET = 1.4
TOGETHER = 20
WARM_UP = 20


def run(sizes: Sizes) -> list[Table]:
    bare = measure_bare("cpu", turns=sizes.cpu_turns, deltas=sizes.deltas, together=TOGETHER)["cpu_seconds"]
    with stack() as parts:
        parts.migrate()
        environment = {"CHATKIT_CONCURRENCY": str(TOGETHER), "BENCH_DELTAS": str(sizes.deltas)}
        turn = min(measure(parts, sizes, TOGETHER) for _ in range(2))
        worker = parts.worker(MODEL_APP, **environment)
        done = 2 * (sizes.cpu_turns + 1)
        _turns(parts, WARM_UP, done_before=done)
        before = cpu_seconds(worker.pid)
        for start in range(0, sizes.cpu_turns, TOGETHER):
            _turns(parts, min(TOGETHER, sizes.cpu_turns - start), done_before=done + WARM_UP + start)
        ours = (cpu_seconds(worker.pid) - before) / sizes.cpu_turns
    # each twice: the machine may have been busy with something else the first time
    bare = min(bare, measure_bare("cpu", turns=sizes.cpu_turns, deltas=sizes.deltas, together=TOGETHER)["cpu_seconds"])
    lines = [
        Line("bare Runner.run_streamed + stream_agent_response", f"{bare * 1000:.1f} ms"),
        Line("turn", f"{turn * 1000:.1f} ms = {turn / bare:.2f}x", f"<= {TARGET:g}x", turn / bare <= TARGET),
        Line("whole worker", f"{ours * 1000:.1f} ms = {ours / bare:.2f}x"),
    ]
    return [Table(f"(d) CPU per turn of {sizes.deltas} deltas", f"process CPU time, {TOGETHER} turns at a time", lines)]


def _turns(parts: Stack, count: int, *, done_before: int) -> None:
    """Run turns and wait for the last of them."""
    with Publisher(parts.broker_url) as publisher:
        publisher.publish_many(create_event("hi", source="/bench") for _ in range(count))

    async def all_done(lanes: Lanes) -> bool:
        return (await lanes.depth()).states[EventState.DONE] == done_before + count

    until(parts, all_done, within=300)
