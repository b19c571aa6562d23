"""A state machine against a plain model: reservations, grants, further calls, settlements with any verdict, crashes and
cancels in any order, under limits of the model, a tenant and users."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import fakeredis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.limit_builders import MODEL, Stand, stand_on
from tests.limit_model import CONCURRENCY, GRANT_US, RPM, TENANT_RPM, TPM, USER_RPM, LimitModel, Ticket
from tests.machine_profile import profile
from workers.lanes.connection import connect
from workers.policies.rate_limit import InLine, Reserved, Used, Verdict

NAMES = [f"{tenant}{user}{number}" for tenant in "ab" for user in "uv" for number in range(3)]
"""Tenant, user, and which of its events."""

ALL = 100
EXPIRING = ("res:", "tenant:", "user:", "number:")
VERDICTS: list[Verdict] = ["ok", "ok", "neutral", "failed", "failed", "rate_limited", "deferred", "handed_over"]


class LimitMachine(RuleBasedStateMachine):
    """Every event has one of: nothing, a place in line, a grant, a reservation."""

    url: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        state = connect(self.url) if self.url else fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
        self.stand: Stand = stand_on(state, "machine")
        self.model = LimitModel(self.stand.clock.us)
        self.reserved: dict[str, Reserved] = {}
        if self.url:
            self.run(self.empty(state))
        of_model = {"rpm": RPM, "tpm": TPM, "concurrency": CONCURRENCY}
        tenants = {name: {"rpm": rpm} for name, rpm in TENANT_RPM.items()}
        users = {name: {"rpm": rpm} for name, rpm in USER_RPM.items()}
        self.run(self.stand.limit(models={MODEL: of_model}, tenants=tenants, users=users))

    async def empty(self, state: Any) -> None:
        await state.flushdb()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def event_id(self, name: str) -> str:
        [event_id] = [id_ for id_, known in self.stand.names.items() if known == name]
        return event_id

    def kept_aside(self) -> set[str]:
        """Who is not looked at for now, because of a limit of its own: its state, or that its tenant rests."""

        async def look() -> set[str]:
            tag, state = "machine:{limits}:", self.stand.state
            resting: Any = await state.zrange(f"{tag}rest", 0, -1)
            tenants = {member.decode().rpartition(":")[2] for member in resting}
            aside = set()
            for name in self.model.line:
                ticket: Any = await state.hget(f"{tag}ticket:{self.event_id(name)}", "state")
                if ticket == b"aside" or name[0] in tenants:
                    aside.add(name)
            return aside

        found: set[str] = self.run(look())
        return found

    def expect_grants(self, names: list[str], aside: set[str]) -> None:
        """Those in line get what there is; of a tenant the first that does not wait for its user."""
        model = self.model
        for name in names:
            ticket = model.line.pop(name, None)
            assert ticket is not None, f"{name} was granted and stood in no line"
            assert model.model_wait(ticket.tokens) <= model.doubt_us, f"{name} was granted beyond its model's limits"
            assert model.own_wait(ticket) <= model.doubt_us, f"{name} was granted beyond its own limits"
            for other in model.line.values():
                if other.tenant == ticket.tenant and other.number < ticket.number:
                    assert other.user != ticket.user, f"{name} overtook {other.name} of its user"
                    waits = other.name in aside or model.user_wait(other) > -model.doubt_us
                    assert waits, f"{name} overtook {other.name} of its tenant"
            model.take(ticket, GRANT_US)
            model.granted[name] = ticket

    def expect_nobody_forgotten(self) -> None:
        """If the first of each tenant that may go fits, there was room for one."""
        model = self.model
        firsts: dict[str, Ticket] = {}
        for ticket in sorted(model.line.values(), key=lambda one: one.number):
            before = [one for one in model.line.values() if one.number < ticket.number]
            if all(one.name[:2] != ticket.name[:2] for one in before) and model.own_wait(ticket) <= model.doubt_us:
                firsts.setdefault(ticket.tenant, ticket)
        if any(model.own_wait(ticket) > -model.doubt_us - 1000 for ticket in firsts.values()):
            return  # they come back in whole milliseconds: whether it was now is in doubt
        fit = [model.model_wait(ticket.tokens) < -model.doubt_us for ticket in firsts.values()]
        assert not fit or not all(fit), f"room was left while {sorted(firsts)} waited"

    @rule(name=st.sampled_from(NAMES), token=st.sampled_from(["t1", "t2"]))
    def ask(self, name: str, token: str) -> None:
        model = self.model
        aside = self.kept_aside()
        text = Ticket(name, 0, 0).text_tokens
        answer = self.run(self.stand.ask(name, tenant=name[0], userid=name[1], token=token, tokens=text))
        model.look()
        if name in model.held:
            self.expect_still_held(name, token, answer)
        elif name in model.granted and not model.lives(model.granted[name]):
            model.line[name] = model.revoke(name)
            assert isinstance(answer, InLine), "a grant that has run out is none"
        elif name in model.granted and (model.circuit_wait() == 0 or model.probe == name):
            assert isinstance(answer, Reserved)
            self.reserve(model.granted.pop(name), answer)
        elif name in model.granted:  # the circuit has opened since
            ticket = model.revoke(name)
            ticket.tokens = model.estimate(ticket)
            model.line[name] = ticket
            assert isinstance(answer, InLine), "a grant was taken up while the circuit is open"
        elif name in model.line:
            assert isinstance(answer, InLine), "it stood in line and was granted nothing"
        else:
            self.expect_for_newcomer(model.new_ticket(name), answer, aside)

    @rule(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    def usher(self, names: list[str]) -> None:
        """They come together, before any worker asks."""
        model = self.model
        for name in names:
            aside = self.kept_aside()
            text = Ticket(name, 0, 0).text_tokens
            ask = self.stand.ask_of(name, tenant=name[0], userid=name[1], tokens=text)
            [place] = self.run(self.stand.limiter.usher([ask]))
            if name in model.held or name in model.granted or name in model.line:
                assert place is None, "who is known already is only to be woken"
                continue
            model.look()
            ticket = model.new_ticket(name)
            if place is not None:
                self.expect_waits(ticket)
                continue
            self.expect_room(ticket, aside)
            model.take(ticket, GRANT_US)
            model.granted[name] = ticket

    @rule(names=st.lists(st.sampled_from(NAMES), min_size=3, unique=True))
    def ask_for_many(self, names: list[str]) -> None:
        for name in names:
            self.ask(name, "t1")

    def expect_still_held(self, name: str, token: str, answer: Reserved | InLine) -> None:
        assert isinstance(answer, Reserved)
        if token != self.model.held[name].token:
            self.model.take_over(self.model.held[name], token)
            self.reserved[name] = answer

    def expect_for_newcomer(self, ticket: Ticket, answer: Reserved | InLine, aside: set[str]) -> None:
        if isinstance(answer, InLine):
            self.expect_waits(ticket)
            return
        self.expect_room(ticket, aside)
        self.model.take(ticket, 0)
        self.reserve(ticket, answer)

    def expect_waits(self, ticket: Ticket) -> None:
        model = self.model
        wait = max(model.model_wait(ticket.tokens), model.own_wait(ticket))
        assert model.line or wait > -model.doubt_us - 1, "there was room, and nobody in line"
        model.line[ticket.name] = ticket

    def expect_room(self, ticket: Ticket, aside: set[str]) -> None:
        model = self.model
        wait = max(model.model_wait(ticket.tokens), model.own_wait(ticket))
        assert wait <= model.doubt_us, "there was no room"
        for other in model.line.values():
            assert other.name in aside, f"{other.name} stood in line"
            assert other.name[:2] != ticket.name[:2], f"{other.name} of the same user waited"

    def reserve(self, ticket: Ticket, answer: Reserved) -> None:
        assert answer.probe == (self.model.probe == ticket.name)
        self.model.reserve(ticket, answer.token)
        self.reserved[ticket.name] = answer

    @rule(limit=st.sampled_from([1, 2, ALL, ALL]))
    def grant(self, limit: int) -> None:
        model, aside = self.model, self.kept_aside()
        names = self.run(self.stand.granted(limit))
        model.look()
        expired = [ticket for ticket in model.granted.values() if not model.lives(ticket)]
        for ticket in sorted(expired, key=lambda one: (one.expires_us // 1000, self.event_id(one.name)))[:limit]:
            model.line[ticket.name] = model.revoke(ticket.name)
        self.expect_grants(names, aside)
        if limit == ALL:
            self.expect_nobody_forgotten()

    @precondition(lambda self: self.reserved)
    @rule(data=st.data(), longest_ms=st.sampled_from([0, 300, 60_000]), twice=st.booleans())
    def call_again(self, data: st.DataObject, longest_ms: int, twice: bool) -> None:
        model, name = self.model, data.draw(st.sampled_from(sorted(self.reserved)))
        ticket, longest = model.held[name], timedelta(milliseconds=longest_ms)
        number = ticket.calls + 1
        told = self.run(self.stand.limiter.next_call(self.reserved[name], number, longest))
        before, before_at = model.factor, model.factor_at
        model.look()
        tokens = model.estimate(ticket)
        rates = max(
            model.requests.wait(model.now, 1, model.factor), model.tokens.wait(model.now, tokens, model.factor), 0
        )
        wait_ms = told.total_seconds() * 1000
        assert wait_ms == pytest.approx(max(rates / 1000, model.hold - model.ms), abs=1.5)
        if wait_ms > longest_ms:
            model.factor, model.factor_at = before, before_at  # nothing was written
            return
        model.charge(tokens)
        ticket.calls, ticket.charged = number, ticket.charged + tokens
        if twice:
            assert self.run(self.stand.limiter.next_call(self.reserved[name], number, longest)) == told

    @precondition(lambda self: self.reserved)
    @rule(
        data=st.data(),
        verdict=st.sampled_from(VERDICTS),
        began=st.sampled_from(["all", "all", "one less", "none"]),
        measured=st.integers(0, 3),
        tokens=st.sampled_from([0, 50, 300]),
        said_ms=st.sampled_from([0, 20, 2000]),
        twice=st.booleans(),
    )
    def settle(
        self,
        data: st.DataObject,
        verdict: Verdict,
        began: str,
        measured: int,
        tokens: int,
        said_ms: int,
        twice: bool,
    ) -> None:
        name = data.draw(st.sampled_from(sorted(self.reserved)))
        calls = {"all": self.model.held[name].calls, "none": 0}.get(began, self.model.held[name].calls - 1)
        measured = min(measured, calls)
        used = Used(calls, measured, tokens if measured else 0, verdict, timedelta(milliseconds=said_ms))
        self.settle_one(name, used, twice=twice)

    @precondition(lambda self: len(self.reserved) > 1)
    @rule(verdict=st.sampled_from(["failed", "failed", "ok"]))
    def settle_all(self, verdict: Verdict) -> None:
        for name in sorted(self.reserved):
            calls = self.model.held[name].calls
            self.settle_one(name, Used(calls, calls if verdict == "ok" else 0, 100, verdict))

    def settle_one(self, name: str, used: Used, *, twice: bool = False) -> None:
        model, aside = self.model, self.kept_aside()
        reserved = self.reserved.pop(name)
        wakes = self.run(self.stand.limiter.settle(reserved, used))
        model.look()
        said_ms = round(used.retry_after.total_seconds() * 1000) if used.retry_after else 0
        model.settle(name, used.verdict, used.calls, used.measured, used.tokens, said_ms)
        self.expect_grants([self.stand.names[wake.event_id] for wake in wakes], aside)
        if twice:
            assert self.run(self.stand.limiter.settle(reserved, used)) == []

    @precondition(lambda self: self.model.line or self.model.granted)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted({*self.model.line, *self.model.granted})))
        self.run(self.stand.limiter.leave([self.event_id(name)]))
        self.model.look()
        if name in self.model.granted:
            self.model.revoke(name)
        self.model.line.pop(name, None)

    @precondition(lambda self: self.model.line)
    @rule(remaining=st.sampled_from([0, 1, 1000]), of_tokens=st.booleans())
    def correct(self, remaining: int, of_tokens: bool) -> None:
        model = self.model
        told = (None, remaining * 100) if of_tokens else (remaining, None)
        self.run(self.stand.limiter.correct(MODEL, *told))
        model.look()
        rate, left = (model.tokens, remaining * 100) if of_tokens else (model.requests, remaining)
        unit = rate.unit(model.factor)
        rate.tat = max(rate.tat, model.now + max(500_000, unit) - left * unit)

    @rule(ms=st.sampled_from([50, 100, 100, 250, 500, 500, 1000, 1000, 4_999, 5_000, 31_000]))
    def turn(self, ms: int) -> None:
        """Time passes; reservations that nobody renewed are those of dead workers."""
        self.stand.turn(ms / 1000)
        self.model.now = self.stand.clock.us
        self.model.held = {name: held for name, held in self.model.held.items() if self.model.lives(held)}
        self.reserved = {name: one for name, one in self.reserved.items() if name in self.model.held}

    @precondition(lambda self: self.model.circuit == "open")
    @rule()
    def wait_for_the_probe(self) -> None:
        self.turn(5000)
        self.grant(ALL)

    @invariant()
    def what_is_shown_is_what_the_model_has(self) -> None:
        status = self.run(self.stand.status())
        assert status.in_flight == self.model.in_flight <= CONCURRENCY
        assert status.waiting == len(self.model.line)
        assert status.circuit == self.model.circuit

    def teardown(self) -> None:
        """After quiet nothing is left."""
        model = self.model
        try:
            for _ in range(20 * len(NAMES)):
                for name in sorted(model.granted):
                    self.ask(name, "last")
                for name in sorted(self.reserved):
                    self.settle_one(name, Used(1, 1, 10, "ok"))
                if not model.line and not model.granted:
                    break
                self.turn(1000)
                self.grant(ALL)
            self.turn(31_000)
            self.grant(ALL)  # the next look
            assert not model.line
            left = {key for key in self.run(self.stand.keys()) if not key.startswith(EXPIRING)}
            assert left == set()  # those expire by themselves
        finally:
            self.run(self.stand.state.aclose())
            self.loop.close()


@pytest.mark.timeout(3600)
def test_limits_do_what_the_model_does(request: pytest.FixtureRequest) -> None:
    run_state_machine_as_test(LimitMachine, settings=profile(12, 40, long=request.config.getoption("--long")))


@pytest.mark.redis
@pytest.mark.timeout(3600)
def test_limits_do_what_the_model_does_on_redis(request: pytest.FixtureRequest, redis_url: str) -> None:
    class OnRedis(LimitMachine):
        url = redis_url

    run_state_machine_as_test(OnRedis, settings=profile(100, 40, long=request.config.getoption("--long")))
