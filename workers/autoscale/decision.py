"""How many workers there should be. Pure: the same readings give the same answer, and a reason for it.

What waits for a limit or a retry is in none of the readings: a worker could do nothing about it.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """What the limits of one model let through. None: any number."""

    starts_per_second: float | None = None
    running: float | None = None

    def slots(self, service_seconds: float) -> float:
        """How many events can run at once; infinite without a limit."""
        by_rate = math.inf if self.starts_per_second is None else self.starts_per_second * service_seconds
        return min(by_rate, math.inf if self.running is None else self.running)


@dataclass(frozen=True, slots=True)
class Readings:
    """How a deployment stands.

    `ready` events could run now if there were room, the first of them for `oldest_age_seconds`; `running` of `capacity`
    slots are taken, in `workers` that take work, or are `starting` to. An event holds a slot for `service_seconds`.
    `quotas` are those of the models in use; none: there are no limits.
    """

    ready: int
    oldest_age_seconds: float
    running: int
    capacity: int
    workers: int
    service_seconds: float
    quotas: tuple[Quota, ...] = ()
    starting: int = 0


@dataclass(frozen=True, slots=True)
class ScalePolicy:
    """What an operator wants.

    `least` and `most` workers; what is ready begins within `target_age_seconds`; `spare` times the square root of what
    runs is kept free, since that is how far a random load strays (square-root staffing: Halfin and Whitt, 1981); a
    worker goes once none of the last `idle_seconds` needed it. `per_worker` slots are taken for a worker's as long as
    none says.
    """

    least: int
    most: int
    target_age_seconds: float
    spare: float
    idle_seconds: float
    per_worker: int

    def with_room(self, slots: float) -> float:
        """As many slots, and what is to be free beside them."""
        return slots + self.spare * math.sqrt(slots)


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers there should be, and why."""

    workers: int
    reason: str


def needed(readings: Readings, policy: ScalePolicy) -> Decision:
    """How many workers the load and the age call for, whatever there are and may be."""
    calls = [_to_drain(readings, policy), _to_have_room(readings, policy)]
    if readings.ready and readings.oldest_age_seconds > policy.target_age_seconds:
        calls.append(_for_age(readings, policy))
    return max(calls, key=lambda call: call.workers)


def decide(readings: Readings, policy: ScalePolicy, lately: int | None) -> Decision:
    """How many workers there should be.

    Args:
        readings: of this moment.
        policy: the operator's.
        lately: the most that were `needed` at any look within `idle_seconds`; None: nobody has looked for so long.
    """
    call = needed(readings, policy)
    if call.workers > readings.workers:
        call = _fed(call, readings, policy)
    elif call.workers < readings.workers:
        call = _idle(call, readings, policy, lately)
    return _bounded(call, policy)


def _to_drain(readings: Readings, policy: ScalePolicy) -> Decision:
    """A slot begins one event at once, and another whenever one has ended. What runs goes on being what runs."""
    begun_by_a_slot = max(1.0, policy.target_age_seconds / readings.service_seconds)
    slots = readings.running + readings.ready / begun_by_a_slot
    what = f"{readings.ready} ready and {readings.running} running, {readings.service_seconds:.1f} s each"
    return Decision(math.ceil(slots / _per_worker(readings, policy)), what)


def _to_have_room(readings: Readings, policy: ScalePolicy) -> Decision:
    slots = policy.with_room(readings.running)
    what = f"{readings.running} of {readings.capacity} slots taken, {slots - readings.running:.0f} are to be free"
    return Decision(math.ceil(slots / _per_worker(readings, policy)), what)


def _for_age(readings: Readings, policy: ScalePolicy) -> Decision:
    """Slots may be free and events wait all the same, for a processor say. One more, then: how many would do it nobody
    can tell before that one works."""
    age, target = readings.oldest_age_seconds, policy.target_age_seconds
    more = 0 if readings.starting else 1
    return Decision(readings.workers + more, f"ready for {age:.0f} s, {target:g} s are to be the most")


def _fed(call: Decision, readings: Readings, policy: ScalePolicy) -> Decision:
    """None is added that the provider could not feed, even with as much room as there is to be."""
    slots = sum((quota.slots(readings.service_seconds) for quota in readings.quotas), 0.0)
    if not readings.quotas or math.isinf(slots):
        return call
    feeds = max(readings.workers, math.ceil(policy.with_room(slots) / _per_worker(readings, policy)))
    if feeds >= call.workers:
        return call
    return Decision(feeds, f"{call.reason}; the limits feed no more than {slots:.0f} at once")


def _idle(call: Decision, readings: Readings, policy: ScalePolicy, lately: int | None) -> Decision:
    """None is taken that the last while has needed."""
    if lately is None:
        return Decision(readings.workers, f"{call.reason}; not seen for {policy.idle_seconds:g} s yet")
    if lately >= readings.workers:
        return Decision(readings.workers, f"{call.reason}; more were needed within {policy.idle_seconds:g} s")
    wanted = max(call.workers, lately)
    return Decision(wanted, f"{call.reason}; for {policy.idle_seconds:g} s no more than {wanted} were needed")


def _bounded(call: Decision, policy: ScalePolicy) -> Decision:
    if call.workers > policy.most:
        return Decision(policy.most, f"{call.reason}; {policy.most} is the most")
    if call.workers < policy.least:
        return Decision(policy.least, f"{call.reason}; {policy.least} is the least")
    return call


def _per_worker(readings: Readings, policy: ScalePolicy) -> float:
    return readings.capacity / readings.workers if readings.workers and readings.capacity else policy.per_worker
