"""A state machine against a plain model: reservations, grants, settlements, crashes and cancels in any order."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import fakeredis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.limit_builders import GRANT, LEASE, Stand, stand_on
from tests.machine_profile import profile
from workers.lanes.connection import connect
from workers.policies.rate_limit import InLine, Reserved

RPM, CONCURRENCY, BURST_US = 600, 3, 500_000
UNIT_US = 60_000_000 // RPM
NAMES = [f"{tenant}{number}" for tenant in "ab" for number in range(4)]


@dataclass
class Held:
    """A reservation or a grant, as the model sees it."""

    expires_us: int
    reserved: Reserved | None = None


class LimitMachine(RuleBasedStateMachine):
    """Every event has one of: nothing, a place in line, a grant, a reservation."""

    url: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        state = connect(self.url) if self.url else fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
        self.stand: Stand = stand_on(state, "machine")
        self.tat = 0
        self.line: dict[str, int] = {}
        self.granted: dict[str, Held] = {}
        self.held: dict[str, Held] = {}
        self.numbers: dict[str, int] = {}
        if self.url:
            self.run(self.empty(state))
        self.run(self.stand.limit(rpm=RPM, concurrency=CONCURRENCY))

    async def empty(self, state: Any) -> None:
        await state.flushdb()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @property
    def now(self) -> int:
        return self.stand.clock.us

    def in_flight(self) -> int:
        return sum(self.lives(one) for one in (*self.granted.values(), *self.held.values()))

    def room(self) -> bool:
        ahead = max(self.tat, self.now) - self.now + UNIT_US
        return ahead <= BURST_US and self.in_flight() < CONCURRENCY

    def pay(self) -> None:
        self.tat = max(self.tat, self.now) + UNIT_US

    def expect_grants(self, names: list[str], limit: int) -> None:
        """Those in line get what there is, first come first served within their tenant."""
        for name in names:
            assert name in self.line, f"{name} was granted and stood in no line"
            assert self.room(), f"{name} was granted beyond the limits"
            mine = [other for other in self.line if other[0] == name[0]]
            assert name == min(mine, key=self.line.__getitem__), f"{name} overtook its tenant"
            del self.line[name]
            self.granted[name] = Held(self.after(GRANT))
            self.pay()
        assert not self.line or not self.room() or len(names) >= limit, "room was left while somebody waited"

    def untaken(self, name: str) -> None:
        """A grant that nobody took up: back to where it stood, and what it paid with it."""
        del self.granted[name]
        self.line[name] = self.numbers[name]
        self.tat -= UNIT_US

    def expiry_of(self, name: str) -> tuple[int, str]:
        """The order in which Redis finds what has run out: ties go by the event's id."""
        return self.granted[name].expires_us // 1000, self.event_id(name)

    def event_id(self, name: str) -> str:
        [event_id] = [id_ for id_, known in self.stand.names.items() if known == name]
        return event_id

    def lives(self, held: Held) -> bool:
        return held.expires_us // 1000 > self.now // 1000

    def after(self, term: timedelta) -> int:
        return self.now // 1000 * 1000 + round(term.total_seconds() * 1e6)

    @rule(name=st.sampled_from(NAMES), token=st.sampled_from(["t1", "t2"]))
    def ask(self, name: str, token: str) -> None:
        answer = self.run(self.stand.ask(name, tenant=name[0], token=token))
        if name in self.held:
            held = self.held[name]
            assert isinstance(answer, Reserved)
            assert held.reserved is not None
            if token != held.reserved.token:  # a successor makes a call of its own
                self.pay()
                self.held[name] = Held(self.after(LEASE), answer)
            return
        if name in self.granted and not self.lives(self.granted[name]):
            self.untaken(name)
        if name in self.granted:
            assert isinstance(answer, Reserved)
            del self.granted[name]
            self.held[name] = Held(self.after(LEASE), answer)
            return
        if name not in self.line:
            self.numbers[name] = max(self.numbers.values(), default=0) + 1
            if not self.line and self.room():
                assert isinstance(answer, Reserved), "there was room, and nobody in line"
                self.pay()
                self.held[name] = Held(self.after(LEASE), answer)
                return
            self.line[name] = self.numbers[name]
        assert isinstance(answer, InLine), "there was no room, or somebody in line"

    @rule(limit=st.integers(1, 5))
    def grant(self, limit: int) -> None:
        expired = [name for name, grant in self.granted.items() if not self.lives(grant)]
        for name in sorted(expired, key=self.expiry_of)[:limit]:  # work per call is bounded
            self.untaken(name)
        self.expect_grants(self.run(self.stand.granted(limit)), limit)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), twice=st.booleans())
    def settle(self, data: st.DataObject, twice: bool) -> None:
        reserved = self.settle_one(data.draw(st.sampled_from(sorted(self.held))))
        if twice:
            assert self.run(self.stand.settle(reserved, "neutral")) == []

    def settle_one(self, name: str) -> Reserved:
        reserved = self.held.pop(name).reserved
        assert reserved is not None
        self.expect_grants(self.run(self.stand.settle(reserved, "neutral")), 10)
        return reserved

    @precondition(lambda self: self.line or self.granted)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted({*self.line, *self.granted})))
        self.run(self.stand.limiter.leave([self.event_id(name)]))
        if self.granted.pop(name, None) is not None:
            self.tat -= UNIT_US
        self.line.pop(name, None)

    @rule(ms=st.sampled_from([1, 50, 100, 1000, 4_999, 5_000, 31_000]))
    def turn(self, ms: int) -> None:
        """Time passes; reservations that nobody renewed are those of dead workers."""
        self.stand.turn(ms / 1000)
        self.held = {name: held for name, held in self.held.items() if self.lives(held)}

    @invariant()
    def concurrency_is_never_overstepped(self) -> None:
        status = self.run(self.stand.status())
        assert status.in_flight == self.in_flight() <= CONCURRENCY
        assert status.waiting == len(self.line)

    def teardown(self) -> None:
        """After quiet nothing is left."""
        try:
            for _ in range(3 * len(NAMES)):
                for name in sorted(self.granted):
                    self.ask(name, "last")
                for name in sorted(self.held):
                    self.settle_one(name)
                if not self.line and not self.granted:
                    break
                self.turn(1000)
                self.grant(5)
            self.grant(5)  # the sweeper's next look
            assert not self.line
            assert not self.granted
            assert self.run(self.stand.keys()) <= {
                f"res:{id_}" for id_ in self.stand.names
            }  # these expire by themselves
        finally:
            self.run(self.stand.state.aclose())
            self.loop.close()


@pytest.mark.timeout(3600)
def test_limits_do_what_the_model_does(request: pytest.FixtureRequest) -> None:
    run_state_machine_as_test(LimitMachine, settings=profile(40, 40, long=request.config.getoption("--long")))


@pytest.mark.redis
@pytest.mark.timeout(3600)
def test_limits_do_what_the_model_does_on_redis(request: pytest.FixtureRequest, redis_url: str) -> None:
    class OnRedis(LimitMachine):
        url = redis_url

    run_state_machine_as_test(OnRedis, settings=profile(100, 40, long=request.config.getoption("--long")))
