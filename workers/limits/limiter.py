"""The limits of a deployment. Each step is one Lua script: it reserves everything that a run needs, or nothing.

All keys are under one hash tag. Whatever is reserved is a lease: a worker that dies gives it back by its end.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from schemas.events import Event
from workers.errors import LeaseLostError
from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.records import Wake
from workers.lanes.replies import wakes_of
from workers.lanes.scripts import Argument, Call, Clock, ScriptRunner, script
from workers.policies.rate_limit import InLine, Reserved, Used
from workers.setting_types import Limits

PACKAGE = "workers.limits"


@dataclass(frozen=True, slots=True)
class Ask:
    """What an event needs. `text_tokens` is an estimate of what its own text costs; `again`: an attempt has failed."""

    event: Event
    lane: str
    queue: str
    model: str
    fallback: str | None = None
    text_tokens: int = 0
    again: bool = False


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How the limits of one model stand. Ratios and `ceiling` are from 0 to 1; None: no such limit."""

    model: str
    rpm: float | None
    tpm: float | None
    concurrency: int | None
    ceiling: float
    held_seconds: float
    circuit: Literal["closed", "open", "half_open"]
    circuit_seconds: float
    in_flight: int
    waiting: int
    tokens_per_call: float
    used_rpm: float | None
    used_tpm: float | None
    used_concurrency: float | None
    calls_per_turn: float = 1.0


class Limiter:
    """Every method is one round trip, and may be called again with the same arguments: that takes nothing twice, and a
    grant whose reply was lost is handed out again once it has run out."""

    def __init__(self, state: State, keys: Keys, *, clock: Clock | None = None) -> None:
        """`clock` is for tests; without one the time is that of Redis."""
        self._scripts = ScriptRunner(state)
        self._state, self._tag, self._clock = state, keys.limits, clock

    async def install(self, limits: Limits) -> bool:
        """Set the limits of the settings, unless they were installed before: what was set since stays in force."""
        return bool(await self._run("config", _json(limits), 1))

    async def set_limits(self, limits: Limits) -> None:
        """Set the limits for every worker, at once."""
        await self._run("config", _json(limits), 0)

    async def limits(self) -> Limits:
        """The limits in force."""
        return Limits.model_validate_json(await self._state.get(f"{self._tag}config") or b"{}")

    async def reserve(self, ask: Ask, token: str, lease: timedelta) -> Reserved | InLine:
        """Reserve all that an event needs, or give it a place in line."""
        verdict, model, *more = await self._run("reserve", *_newcomer(ask, token, lease))
        if verdict == b"reserved":
            return Reserved(ask.event.event_id, token, model.decode(), probe=bool(more[0]))
        return _in_line(model, *more)

    async def usher(self, asks: Sequence[Ask]) -> list[InLine | None]:
        """Show events to their places before any worker is woken for them; None: wake it, it may go."""
        replies = await self._scripts.run([self._call("usher", *_newcomer(ask)) for ask in asks])
        return [_in_line(*place) if place else None for _, *place in replies]

    async def renew(self, reservations: Sequence[Reserved], lease: timedelta) -> None:
        """Keep reservations for another term."""
        calls = [self._call("renew", one.event_id, one.token, _ms(lease)) for one in reservations]
        await self._scripts.run(calls)

    async def next_call(self, reserved: Reserved, number: int, longest: timedelta) -> timedelta:
        """Charge the `number`-th call of a run (from 2); how long to wait before it is made. More than `longest`: it is
        not charged, and not to be made."""
        which = (reserved.event_id, reserved.token)
        return timedelta(milliseconds=await self._run("again", *which, number, _ms(longest)))

    async def settle(self, reserved: Reserved, used: Used) -> list[Wake]:
        """What a run has used, and how the provider did. Gives the grants of what became free.

        Raises:
            LeaseLostError: a later run of the event holds the reservation.
        """
        retry_after = _ms(used.retry_after) if used.retry_after is not None else 0
        calls = (used.calls, used.measured, used.tokens)
        which = (reserved.event_id, reserved.token)
        reply = await self._run("settle", *which, *calls, used.verdict, retry_after)
        if reply == [b"stale"]:
            raise LeaseLostError(f"a later run of {reserved.event_id} holds its reservation")
        return wakes_of(reply)

    async def correct(self, model: str, requests: int | None, tokens: int | None) -> None:
        """What remains, in the provider's words."""
        await self._run("correct", model, "" if requests is None else requests, "" if tokens is None else tokens)

    async def grant(self, limit: int = 100) -> list[Wake]:
        """Hand out what has become free, to `limit` events per model at most."""
        return wakes_of(await self._run("grant", limit))

    async def leave(self, event_ids: Sequence[str]) -> None:
        """Take events out of the line."""
        await self._scripts.run([self._call("leave", event_id) for event_id in event_ids])

    async def places(self, event_ids: Sequence[str]) -> list[InLine | None]:
        """Where events stand in line; None for those that don't."""
        replies = await self._scripts.run([self._call("place", event_id) for event_id in event_ids])
        return [_in_line(*reply) if reply else None for reply in replies]

    async def status(self, *models: str) -> list[ModelStatus]:
        """How the limits of each model stand that has any, or a line, or is named."""
        fields: Any = [json.loads(reply) for reply in await self._run("status", *models)]
        return [ModelStatus(**{name: one.get(name) for name in ModelStatus.__slots__}) for one in fields]

    def _call(self, name: str, *arguments: Argument) -> Call:
        now = "" if self._clock is None else self._clock()
        return Call(script(name, PACKAGE), self._tag, [now, *arguments])

    async def _run(self, name: str, *arguments: Argument) -> Any:
        [reply] = await self._scripts.run([self._call(name, *arguments)])
        return reply


def _newcomer(ask: Ask, token: str = "", lease: timedelta = timedelta(0)) -> list[Argument]:
    """What newcomer.lua says of an event and its run."""
    event = ask.event
    line = "background" if event.priority == "background" else "interactive"
    which: list[Argument] = [event.event_id, token, _ms(lease), ask.model, ask.fallback or "", line]
    who: list[Argument] = [event.tenant, event.userid, ask.text_tokens]
    return [*which, *who, ask.lane, event.type, ask.queue, int(ask.again)]


def _in_line(model: bytes, place: int, seconds: bytes, reason: bytes) -> InLine:
    return InLine(model.decode(), place, timedelta(seconds=float(seconds)), reason.decode())  # type: ignore[arg-type]  # as the script has it


def _json(limits: Limits) -> str:
    return limits.model_dump_json(exclude_none=True)


def _ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
