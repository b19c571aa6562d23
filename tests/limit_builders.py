"""Builders for tests of the limits: a limiter on any client, a clock to turn, events to ask for."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.builders import create_event
from tests.lane_builders import TurnedClock
from workers.clock import utc_now
from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.limits.limiter import Ask, Limiter, ModelStatus
from workers.limits.models import Models
from workers.limits.usher import SeatingLanes, Usher
from workers.policies.rate_limit import InLine, Reserved, Used, Verdict
from workers.setting_types import Limits

LEASE = timedelta(seconds=30)
GRANT = timedelta(seconds=5)
MODEL = "gpt-4.1"


@dataclass(slots=True)
class Stand:
    """A limiter and its clock, as a test uses them."""

    state: State
    limiter: Limiter
    clock: TurnedClock
    names: dict[str, str] = field(default_factory=dict)

    async def limit(self, **limits: Any) -> None:
        """Set limits: those of the model, or whole sections."""
        sections = {name: limits.pop(name) for name in ("models", "tenants", "users") if name in limits}
        if limits:
            sections["models"] = {MODEL: limits}
        await self.limiter.set_limits(Limits.model_validate(sections))

    def turn(self, seconds: float) -> None:
        self.clock.turn(timedelta(seconds=seconds))

    async def ask(
        self,
        name: str,
        *,
        token: str = "t1",
        tokens: int = 0,
        again: bool = False,
        fallback: str | None = None,
        **who: Any,
    ) -> Reserved | InLine:
        """Reserve for the event of a name."""
        ask = self.ask_of(name, tokens=tokens, again=again, fallback=fallback, **who)
        return await self.limiter.reserve(ask, token, LEASE)

    def ask_of(
        self,
        name: str,
        *,
        model: str = MODEL,
        tokens: int = 0,
        again: bool = False,
        fallback: str | None = None,
        **who: Any,
    ) -> Ask:
        """What the event of a name needs."""
        event = create_event(name, id=name, **who)
        self.names[event.event_id] = name
        return Ask(event, event.lane, "q", model, fallback, text_tokens=tokens, again=again)

    async def reserved(self, name: str, **options: Any) -> Reserved:
        answer = await self.ask(name, **options)
        assert isinstance(answer, Reserved), answer
        return answer

    async def waits(self, name: str, **options: Any) -> InLine:
        answer = await self.ask(name, **options)
        assert isinstance(answer, InLine), answer
        return answer

    async def granted(self, limit: int = 100) -> list[str]:
        """Who is granted now, in order."""
        return [self.names[wake.event_id] for wake in await self.limiter.grant(limit)]

    async def settle(
        self,
        reserved: Reserved,
        verdict: Verdict = "ok",
        *,
        calls: int = 1,
        measured: int | None = None,
        tokens: int = 0,
        retry_after: timedelta | None = None,
    ) -> list[str]:
        """Settle a run, and say who is granted what became free. Calls say what they used when all went well."""
        if measured is None:
            measured = calls if verdict == "ok" else 0
        wakes = await self.limiter.settle(reserved, Used(calls, measured, tokens, verdict, retry_after))
        return [self.names[wake.event_id] for wake in wakes]

    async def status(self, model: str = MODEL) -> ModelStatus:
        [status] = [one for one in await self.limiter.status(model) if one.model == model]
        return status

    async def keys(self) -> set[str]:
        """What is left in Redis, but for the configuration and the state of models."""
        found: set[str] = {key.decode().split("}:")[1] async for key in self.state.scan_iter(match="*{limits}*")}
        return {key for key in found if not key.startswith(("config", "installed", "model:", "seq"))}


def stand_on(state: State, prefix: str) -> Stand:
    clock = TurnedClock()
    return Stand(state, Limiter(state, Keys(prefix, 2), clock=clock), clock)


def usher_on(limiter: Limiter, lanes: SeatingLanes, **changes: Any) -> Usher:
    """An usher that lets every event wait as long as it likes."""
    options: dict[str, Any] = {
        "models": Models(MODEL),
        "passes": lambda _: True,
        "patience": lambda _: None,
        "now": utc_now,
    }
    return Usher(limiter, lanes, **{**options, **changes})
