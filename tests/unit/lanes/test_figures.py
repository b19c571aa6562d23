"""The sums of what processes count."""

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from prometheus_client import CollectorRegistry, generate_latest
from redis.exceptions import ConnectionError as RedisConnectionError

from workers.lanes.figures import Figures, Load, Teller
from workers.lanes.keys import Keys
from workers.telemetry.metrics import Metrics
from workers.telemetry.totals import Growth, TotalOf

KEYS = Keys("ck", 2)


@pytest.fixture
def figures() -> Figures:
    return Figures(FakeAsyncRedis(server=FakeServer()), KEYS)


class Forgetful(Figures):
    """Hears every call, and loses the reply of some."""

    lost = 0

    async def tell(self, *arguments: object) -> None:
        await super().tell(*arguments)  # type: ignore[arg-type]  # passed on
        if self.lost:
            self.lost -= 1
            raise RedisConnectionError("the reply was lost")


def teller_of(figures: Figures, metrics: Metrics, name: str = "", running: int = 0) -> Teller:
    return Teller(figures, Growth(metrics.counted()).take, name, lambda: Load(running, 10))


def exported(metrics: Metrics, totals: dict[str, float]) -> list[str]:
    """The lines of the counted metrics of a scrape that are not zero."""
    registry = CollectorRegistry()
    for metric in metrics.counted():
        registry.register(TotalOf(metric, totals))
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#") and not line.endswith(" 0.0")]


async def test_processes_add_up_and_one_that_starts_anew_takes_nothing_away(figures: Figures) -> None:
    for tokens in (3, 4):
        process = Metrics()
        teller = teller_of(figures, process)
        process.tokens.labels("gpt-4.1", "input").inc(tokens)
        await teller.tell()
        process.tokens.labels("gpt-4.1", "input").inc(1)
        await teller.tell()
        await teller.tell()
    told = await figures.read()
    assert exported(Metrics(), dict(told.totals)) == ['chatkit_tokens_total{kind="input",model="gpt-4.1"} 9.0']


async def test_a_call_whose_reply_was_lost_counts_once_and_what_came_meanwhile_is_told_after_it() -> None:
    figures, process = Forgetful(FakeAsyncRedis(server=FakeServer()), KEYS), Metrics()
    teller = teller_of(figures, process)
    process.tokens.labels("m", "output").inc(5)
    figures.lost = 1
    with pytest.raises(RedisConnectionError):
        await teller.tell()
    process.tokens.labels("m", "output").inc(2)
    await teller.tell()
    assert list((await figures.read()).totals.values()) == [5.0]
    await teller.tell()
    assert list((await figures.read()).totals.values()) == [7.0]


async def test_a_histogram_is_exported_as_its_process_would(figures: Figures) -> None:
    process = Metrics()
    for seconds in (0.2, 3.0, 700.0):
        process.turn_seconds.labels("queue").observe(seconds)
    process.time_to_first_token.observe(0.3)
    await teller_of(figures, process).tell()
    own = CollectorRegistry()
    for metric in process.counted():
        own.register(metric)
    lines = generate_latest(own).decode().splitlines()
    here = [line for line in lines if line[0] != "#" and "_created" not in line and not line.endswith(" 0.0")]
    assert exported(Metrics(), dict((await figures.read()).totals)) == here


async def test_totals_of_another_version_are_left_out(figures: Figures) -> None:
    totals = {
        '["chatkit_tokens_total", {"model": "m", "flavour": "x"}]': 1.0,
        '["chatkit_gone_total", {}]': 1.0,
        '["chatkit_turn_seconds_bucket", {"stage": "queue", "le": "77.0"}]': 1.0,
    }
    assert exported(Metrics(), totals) == []


async def test_the_load_of_each_worker_is_kept_and_its_last_word_is_that_it_is_none(figures: Figures) -> None:
    for name, running in (("host:1", 3), ("host:2", 4)):
        await teller_of(figures, Metrics(), name, running).tell()
    await teller_of(figures, Metrics()).tell()  # a quarantine is no worker
    assert (await figures.read()).loads == {"host:1": Load(3, 10), "host:2": Load(4, 10)}
