"""(h) What durability costs: CPU of turns with the journal and the fences, against the same turns without them."""

from tests.bench.our_turns import measure
from tests.bench.sizes import Sizes
from tests.bench.stack import Stack, cpu_seconds, stack
from tests.bench.table import Line, Table

TARGET = 1.15
TOGETHER = 20
ROUNDS = 3
"""Of each kind, in turn; the best counts: the machine may have been busy with something else the other times."""

KINDS = {"one response of 300 deltas": "deltas", "a handoff, a tool, three responses": "script"}


def run(sizes: Sizes) -> list[Table]:
    lines = []
    for name, kind in KINDS.items():
        with stack() as parts:
            parts.migrate()
            costs: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(ROUNDS):
                for durable in costs:
                    costs[durable].append(_cost(parts, sizes, kind, durable=durable))
        plain, ours = min(costs[False]), min(costs[True])
        lines.append(Line(f"{name}: without", f"{plain * 1000:.2f} ms"))
        value = f"{ours * 1000:.2f} ms = {ours / plain:.2f}x"
        lines.append(Line(f"{name}: with", value, f"<= {TARGET:g}x", ours / plain <= TARGET))
    how = f"CPU of the process and of Redis per turn, {TOGETHER} turns at a time"
    return [Table("(h) what durability costs", how, lines)]


def _cost(parts: Stack, sizes: Sizes, kind: str, *, durable: bool) -> float:
    """CPU seconds of one turn: of the process that runs it, and of Redis."""
    before = cpu_seconds(parts.redis_pid)
    options = ["--model", kind, *([] if durable else ["--without-durability"])]
    turn = measure(parts, sizes, TOGETHER, *options)
    return turn + (cpu_seconds(parts.redis_pid) - before) / (sizes.cpu_turns + 1)
