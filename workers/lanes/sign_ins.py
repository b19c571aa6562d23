"""Who waits for somebody to sign in again, and what wakes them: a sign-in of their user, or a changed key of ours.

All of it may be lost: the alarm of an event that waits has it tried again every minute.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any

from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.records import Owner, RouseResult, Wake
from workers.lanes.scripts import Call, Clock, ScriptRunner, pipeline_of, script
from workers.policies.delivery import Delivery

KEPT = timedelta(hours=24)
JUST = timedelta(seconds=10)
"""Longer than it takes from the request to sign in, which pages act upon at once, to the note that somebody waits."""
ALERT_EVERY = timedelta(minutes=10)

Rousing = Callable[[Sequence[Wake]], Awaitable[list[RouseResult]]]


class SignIns:
    """Events that were refused for want of a valid sign-in, by the user that they belong to."""

    def __init__(self, state: State, keys: Keys, rouse: Rousing, clock: Clock | None = None) -> None:
        """`rouse` is that of the lanes, `clock` for tests."""
        self._state, self._keys, self._rouse_lanes = state, keys, rouse
        self._scripts, self._clock = ScriptRunner(state), clock

    async def wait(self, deliveries: Iterable[Delivery]) -> bool:
        """Note events that wait. True when nobody has been alerted of such for some minutes."""
        pipeline, waiting = pipeline_of(self._state), set[str]()
        for delivery in deliveries:
            event, lane = delivery.event, delivery.lease.lane
            key = self._keys.sign_in(f"{event.tenant}/{event.userid}")
            pipeline.hset(key, event.event_id, f"{lane} {event.type} {delivery.queue}")
            pipeline.pexpire(key, KEPT)
            waiting.add(key)
        pipeline.set(f"{self._keys.sign_ins}:told", 1, nx=True, px=ALERT_EVERY)
        nobody_told = bool((await pipeline.execute())[-1])
        now, kept_ms = "" if self._clock is None else self._clock(), round(KEPT.total_seconds() * 1000)
        await self._scripts.run([Call(script("waiting"), self._keys.sign_ins, [now, kept_ms, *sorted(waiting)])])
        return nobody_told

    async def signed_in(self, owners: Collection[Owner]) -> list[Wake]:
        """These users have signed in: what waited for it is due, and is to be woken."""
        pipeline = pipeline_of(self._state)
        for owner in owners:
            pipeline.set(self._keys.signed_in(f"{owner.tenant}/{owner.user}"), 1, px=JUST)
        await pipeline.execute()
        return await self._rouse({self._keys.sign_in(f"{owner.tenant}/{owner.user}") for owner in owners})

    async def missed(self, owners: Collection[Owner]) -> list[Wake]:
        """Events of these users have just been noted: what is to be woken because its user was quicker than the note.

        Once for each sign-in: if it does not help, a second one after it will not either.
        """
        asked = list(owners)
        pipeline = pipeline_of(self._state)
        for owner in asked:
            pipeline.getdel(self._keys.signed_in(f"{owner.tenant}/{owner.user}"))
        just = [owner for owner, mark in zip(asked, await pipeline.execute(), strict=True) if mark is not None]
        return await self._rouse({self._keys.sign_in(f"{owner.tenant}/{owner.user}") for owner in just})

    async def key_is(self, fingerprint: str) -> list[Wake]:
        """Our own key, as a worker that starts has it. If it is another than before, all that waits is to be woken."""
        before: Any = await self._state.getset(f"{self._keys.sign_ins}:key", fingerprint)
        if before is None or before == fingerprint.encode():
            return []
        everybody: Any = await self._state.zrange(self._keys.sign_ins, 0, -1)
        return await self._rouse({key.decode() for key in everybody})

    async def _rouse(self, keys: Collection[str]) -> list[Wake]:
        taking = pipeline_of(self._state)
        for key in keys:
            taking.hgetall(key)
            taking.delete(key)
            taking.zrem(self._keys.sign_ins, key)
        wakes = [
            Wake(lane, event_id.decode(), type_, queue)
            for waiting in (await taking.execute())[::3]
            for event_id, text in waiting.items()
            for lane, type_, queue in [text.decode().split(" ")]
        ]
        answers = zip(wakes, await self._rouse_lanes(wakes), strict=True)
        return [wake for wake, answer in answers if answer == "wake"]
