"""What pages report of effects that an agent waits for: kept for a minute, bounded, by user and action."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from schemas.events import UI_PREFIX, Event
from schemas.ids import derived_id
from workers.errors import StateAwayError
from workers.lanes.connection import STATE_ERRORS, State
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.lanes.scripts import pipeline_of

ACTION_ID = re.compile(r"act_[a-z2-7]{26}")
KEPT = timedelta(seconds=60)
MOST_BYTES = 4096
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.05, 0.4
TOO_LARGE = {"error": f"the outcome was larger than {MOST_BYTES} bytes"}


def action_id_of(key: str) -> str:
    """The id of the action that a tool call sends: the same one whenever that call is made again."""
    return derived_id("act", key.encode())


@dataclass(frozen=True, slots=True)
class Reported:
    """A page's answer to an effect: `outcome` is any JSON value, null where the page has nothing to say."""

    owner: Owner
    action_id: str
    outcome: Any = None


def reported_by(event: Event) -> Reported | None:
    """What a `chatkit.ui.effect` event reports, if its effect has an action id."""
    data = event.data.get("data") if event.type == f"{UI_PREFIX}effect" else None
    action_id = data.get("action_id") if data else None
    if data is None or not isinstance(action_id, str) or ACTION_ID.fullmatch(action_id) is None:
        return None
    return Reported(Owner(event.tenant, event.userid), action_id, data.get("outcome"))


class EffectOutcomes:
    """All outcomes of a deployment. Raises StateAwayError."""

    def __init__(self, state: State, keys: Keys) -> None:
        self._state: Any = state
        self._keys = keys

    async def put(self, reports: Sequence[Reported]) -> None:
        """Keep what pages report; the first word on an action stays."""
        pipeline = pipeline_of(self._state)
        for report in reports:
            outcome = json.dumps({"outcome": report.outcome})
            kept = outcome if len(outcome) <= MOST_BYTES else json.dumps({"outcome": TOO_LARGE})
            pipeline.set(self._key(report.owner, report.action_id), kept, nx=True, px=KEPT)
        try:
            await pipeline.execute()
        except STATE_ERRORS as error:
            raise _away(error) from None

    async def wait(self, owner: Owner, action_id: str, within: timedelta) -> Reported | None:
        """The first report of a page of the owner's; None: there is none in time. Zero asks once."""
        clock = asyncio.get_running_loop().time
        deadline, pause = clock() + within.total_seconds(), FIRST_LOOK_SECONDS
        while True:
            try:
                entry = await self._state.get(self._key(owner, action_id))
            except STATE_ERRORS as error:
                raise _away(error) from None
            if entry is not None:
                return Reported(owner, action_id, json.loads(entry)["outcome"])
            left = deadline - clock()
            if left <= 0:
                return None
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, LAST_LOOK_SECONDS)

    def _key(self, owner: Owner, action_id: str) -> str:
        return self._keys.effect_outcome(f"{owner.tenant}/{owner.user}", action_id)


def _away(error: Exception) -> StateAwayError:
    return StateAwayError("the pages' outcomes cannot be reached", kind=type(error).__name__)
