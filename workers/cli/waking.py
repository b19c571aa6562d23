"""Telling the workers of lanes that have work, from a command."""

from collections.abc import Sequence
from contextlib import closing

from workers.broker import sending_app
from workers.lanes.records import Wake
from workers.settings import Settings
from workers.waker import CeleryWaker


async def wake(settings: Settings, wakes: Sequence[Wake]) -> None:
    """Tell some worker. If the broker cannot be reached, nothing is lost: the lanes' alarms do it seconds later."""
    with closing(sending_app(settings)) as app, closing(CeleryWaker(app)) as waker:
        await waker.wake(wakes)
