"""The lanes as a deployment's settings have them."""

from datetime import timedelta

from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.settings import Settings


def keys_of(settings: Settings) -> Keys:
    """The names of the deployment's keys."""
    return Keys(settings.prefix, settings.shards)


def lanes_of(settings: Settings, state: State, *, owner: str) -> Lanes:
    """The lanes of the deployment. `owner` is the name that leases are taken under."""
    return Lanes(
        state,
        keys_of(settings),
        owner=owner,
        lease=settings.lease,
        max_waiting_per_lane=settings.max_waiting_per_lane,
        max_waiting=settings.max_waiting,
        retention=timedelta(seconds=settings.retention),
        double_text=settings.double_text,
        debounce=settings.debounce,
    )
