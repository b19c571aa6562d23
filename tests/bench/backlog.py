"""(e) A backlog against a provider that enforces its own limits: how much of them is used, how often it refuses."""

import time
from collections.abc import Callable

from celery import Celery

from schemas.outcome import EventState
from tests.bench.sizes import Sizes
from tests.bench.stack import Stack, stack, until
from tests.bench.table import Line, Table
from tests.builders import create_event
from tests.worker_process import WorkerProcess
from workers.lanes.lanes import Lanes
from workers.publisher import Publisher
from workers.testing.provider import FakeProvider
from workers.testing.provider_limits import BURST_SECONDS, ProviderLimits
from workers.testing.provider_steps import Text

WORKERS = 4
LEAST_USED, MOST_REFUSED = 0.97, 0.005
PATIENCE = 2.0
TOKENS_TO_SPARE = 1.05
"""Tokens per minute beside the requests per minute: both limits are near."""


def run(sizes: Sizes) -> list[Table]:
    ours = _against_limits(sizes, _ours)
    usual = _against_limits(sizes, _usual)
    how = f"{sizes.backlog} events, {WORKERS} workers, {sizes.backlog_rpm} requests per minute, burst of one second"
    return [Table("(e) a backlog against the provider's limits", how, [*ours, *usual])]


def _against_limits(sizes: Sizes, drive: Callable[[Stack, FakeProvider, Sizes], str]) -> list[Line]:
    limits = ProviderLimits(sizes.backlog_rpm, sizes.backlog_rpm * 120 * TOKENS_TO_SPARE)
    answer = Text("This is what you wanted to know, I think.")
    with FakeProvider(lambda _: answer, limits=limits) as provider, stack() as parts:
        who = drive(parts, provider, sizes)
        ended = time.monotonic()
    left = sizes.backlog - len(limits.accepted)
    seconds = (ended if left else limits.accepted[-1]) - limits.accepted[0]
    allowed = (seconds + BURST_SECONDS) * sizes.backlog_rpm / 60  # what its bucket held at first is there for everybody
    used = len(limits.accepted) / allowed
    refused = limits.refused / (len(limits.accepted) + limits.refused)
    lines = [
        Line(f"{who}: used of what was allowed", f"{used:.1%}", f">= {LEAST_USED:.0%}", used >= LEAST_USED),
        Line(f"{who}: calls refused", f"{refused:.2%}", f"< {MOST_REFUSED:.1%}", refused < MOST_REFUSED),
        Line(f"{who}: from first to last answer", f"{seconds:.1f} s"),
    ]
    return lines if not left else [*lines, Line(f"{who}: still unanswered when it was stopped", str(left))]


def _ours(parts: Stack, provider: FakeProvider, sizes: Sizes) -> str:
    parts.migrate()
    limits = (
        f'{{"models": {{"*": {{"rpm": {sizes.backlog_rpm}, "tpm": {sizes.backlog_rpm * 120 * TOKENS_TO_SPARE}}}}}}}'
    )
    for _ in range(WORKERS):
        parts.worker(OPENAI_BASE_URL=provider.base_url, OPENAI_API_KEY="of-no-value", CHATKIT_LIMITS=limits)
    with Publisher(parts.broker_url) as publisher:
        publisher.publish_many([create_event(f"question {number}") for number in range(sizes.backlog)])

    async def all_done(lanes: Lanes) -> bool:
        depth = await lanes.depth()
        return bool(depth.states[EventState.DONE] == sizes.backlog)

    until(parts, all_done, within=600)
    return "ours"


def _usual(parts: Stack, provider: FakeProvider, sizes: Sizes) -> str:
    environment = {
        "BENCH_BROKER_URL": parts.broker_url,
        "OPENAI_BASE_URL": provider.base_url,
        "BENCH_RATE": f"{sizes.backlog_rpm // WORKERS}/m",
    }
    app = Celery("usual", broker=parts.broker_url, set_as_current=False)
    workers = [
        WorkerProcess(
            "tests.bench.usual_app",
            environment=environment,
            options=["--pool", "threads", "--concurrency", "20"],
            fresh=True,
        )
        for _ in range(WORKERS)
    ]
    try:
        for worker in workers:
            worker.start()
        for number in range(sizes.backlog):
            app.send_task("answer", [f"question {number}"])
        # its backoff may be ten minutes: what is not answered by then is counted, not waited for
        deadline = time.monotonic() + 30 + PATIENCE * sizes.backlog / (sizes.backlog_rpm / 60)
        while provider.limits is not None and len(provider.limits.accepted) < sizes.backlog:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
    finally:
        for worker in workers:
            worker.kill()
        app.close()
    return "Celery rate_limit + autoretry"
