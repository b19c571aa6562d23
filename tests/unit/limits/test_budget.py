"""The budget of retries: an outage is not amplified, and a blip is soon forgotten."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.limit_builders import Stand
from workers.policies.rate_limit import Reserved

STEP_SECONDS = 0.25
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 1.0, 60.0

Moment = Literal["ask", "end"]


@dataclass
class Play:
    """Events that come, call a provider that takes a while, fail, and try again: as workers do, on a turned clock."""

    stand: Stand
    fails: Callable[[float], bool]
    call_seconds: float = 2.0
    now: float = 0.0
    calls: int = 0
    probes: int = 0
    answered: dict[str, float] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    running: dict[str, Reserved] = field(default_factory=dict)
    moments: list[tuple[float, int, Moment, str]] = field(default_factory=list)
    order: "itertools.count[int]" = field(default_factory=itertools.count)

    def at(self, when: float, what: Moment, name: str) -> None:
        heapq.heappush(self.moments, (when, next(self.order), what, name))

    async def run(self, seconds: float, *, until: int | None = None) -> None:
        """Let time pass, or until so many are answered."""
        end = self.now + seconds
        while self.now < end and len(self.answered) != until:
            self.stand.turn(STEP_SECONDS)
            self.now += STEP_SECONDS
            while self.moments and self.moments[0][0] <= self.now:
                _, _, what, name = heapq.heappop(self.moments)
                await (self.ask(name) if what == "ask" else self.end(name))
            for name in await self.stand.granted():
                await self.ask(name)

    async def ask(self, name: str) -> None:
        answer = await self.stand.ask(name, again=self.attempts.get(name, 0) > 0)
        if isinstance(answer, Reserved):
            self.calls += 1
            self.probes += answer.probe
            self.running[name] = answer
            self.at(self.now + self.call_seconds, "end", name)

    async def end(self, name: str) -> None:
        failed = self.fails(self.now)
        for granted in await self.stand.settle(self.running.pop(name), "failed" if failed else "ok"):
            await self.ask(granted)
        if failed:
            attempt = self.attempts[name] = self.attempts.get(name, 0) + 1
            backoff = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (attempt - 1))
            self.at(self.now + backoff, "ask", name)
        else:
            self.answered[name] = self.now


async def test_an_outage_of_a_minute_under_load_costs_a_tenth_more_calls_and_the_probes(stand: Stand) -> None:
    await stand.limit(concurrency=20)
    play = Play(stand, lambda now: 30 <= now < 90)
    for number in range(500):
        play.at(number / 4, "ask", str(number))  # four a second, of ten that are possible
    await play.run(400, until=500)
    assert len(play.answered) == 500
    assert play.probes > 2
    assert play.calls <= 1.1 * 500 + play.probes


async def test_a_blip_that_cuts_a_hundred_streams_of_a_quiet_system_is_made_good_within_a_minute(stand: Stand) -> None:
    play = Play(stand, lambda now: now < 3)
    for number in range(100):
        play.at(0, "ask", str(number))
    await play.run(120, until=100)
    assert len(play.answered) == 100
    assert max(play.answered.values()) < 60
    assert play.calls <= 200 + play.probes


async def test_where_a_part_of_the_calls_goes_on_failing_retries_stay_a_tenth_of_what_is_answered(stand: Stand) -> None:
    tosses = itertools.count()
    play = Play(stand, lambda _: next(tosses) % 2 == 0)
    for number in range(600):
        play.at(number / 10, "ask", str(number))
    await play.run(60)
    assert len(play.answered) > 250
    assert play.calls <= 600 + 10 + 0.1 * len(play.answered) + 0.1 * 60


async def test_what_was_answered_earns_a_tenth_of_a_retry_while_the_provider_is_not_well(stand: Stand) -> None:
    """Ten at once, then one for every ten answers; what has not failed yet is not held up by them."""
    await stand.settle(await stand.reserved("failed"), "failed")
    for number in range(10):
        await stand.settle(await stand.reserved(f"r{number}", again=True), "neutral")
    assert (await stand.waits("late", again=True)).reason == "retry_budget"
    for number in range(11):
        await stand.settle(await stand.reserved(f"n{number}"))
    assert await stand.granted() == []
    stand.turn(0.2)
    assert await stand.granted() == ["late"]
    await stand.waits("later", again=True)
    stand.turn(1)
    assert await stand.granted() == []


async def test_a_minute_without_an_answer_lets_no_more_than_sixteen_retries_go(stand: Stand) -> None:
    """Failures that say nothing about the provider leave its circuit closed."""
    for number in range(5):
        await stand.settle(await stand.reserved(f"fine{number}"))
    ready = [f"r{number}" for number in range(100) if isinstance(await stand.ask(f"r{number}", again=True), Reserved)]
    gone = 0
    for _ in range(240):
        for name in ready:
            await stand.settle(await stand.reserved(name, again=True), "neutral")
            gone += 1
        stand.turn(STEP_SECONDS)
        ready = await stand.granted()
    assert gone <= 16


async def test_retries_that_wait_for_the_budget_go_in_the_order_in_which_they_came(stand: Stand) -> None:
    for number in range(10):
        await stand.reserved(f"r{number}", again=True)
    for number in range(30):
        await stand.waits(f"w{number}", again=True)
    went: list[str] = []
    for _ in range(60):
        stand.turn(5)
        for name in await stand.granted():
            await stand.settle(await stand.reserved(name), "neutral")
            went.append(name)
    assert went == [f"w{number}" for number in range(30)]
