"""What an operator relies on, whatever the readings."""

import math
from dataclasses import replace

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from workers.autoscale.decision import Quota, Readings, ScalePolicy, decide, needed

POLICY = ScalePolicy(least=1, most=20, target_age_seconds=10.0, spare=1.5, idle_seconds=60.0, per_worker=10)
QUIET = Readings(ready=0, oldest_age_seconds=0.0, running=0, capacity=20, workers=2, service_seconds=2.0)

counts = st.integers(min_value=0, max_value=5_000)
seconds = st.floats(min_value=0.01, max_value=600.0)
quotas = st.builds(
    Quota,
    starts_per_second=st.none() | st.floats(min_value=0, max_value=1000),
    running=st.none() | st.floats(min_value=0, max_value=1000),
)


@st.composite
def readings_of(draw: st.DrawFn, *, limited: bool = True) -> Readings:
    workers = draw(st.integers(min_value=0, max_value=30))
    ready = draw(counts)
    return Readings(
        ready=ready,
        oldest_age_seconds=draw(seconds) if ready else 0.0,
        running=draw(counts),
        capacity=workers * draw(st.integers(min_value=1, max_value=200)),
        workers=workers,
        service_seconds=draw(seconds),
        quotas=tuple(draw(st.lists(quotas, max_size=3))) if limited else (),
    )


@st.composite
def policies(draw: st.DrawFn) -> ScalePolicy:
    least = draw(st.integers(min_value=0, max_value=10))
    return ScalePolicy(
        least=least,
        most=draw(st.integers(min_value=max(1, least), max_value=40)),
        target_age_seconds=draw(seconds),
        spare=draw(st.floats(min_value=0.0, max_value=3.0)),
        idle_seconds=draw(seconds),
        per_worker=draw(st.integers(min_value=1, max_value=200)),
    )


law = settings(deadline=None)

lately_of = st.none() | st.integers(min_value=0, max_value=60)


def per_worker(readings: Readings, policy: ScalePolicy) -> float:
    return readings.capacity / readings.workers if readings.workers else policy.per_worker


@law
@given(readings_of(), policies(), lately_of)
def test_it_stays_within_its_bounds_and_says_why(readings: Readings, policy: ScalePolicy, lately: int | None) -> None:
    decision = decide(readings, policy, lately)
    assert policy.least <= decision.workers <= policy.most
    assert decision.reason


@law
@given(readings_of(limited=False), policies(), lately_of)
def test_load_adds_workers_at_once(readings: Readings, policy: ScalePolicy, lately: int | None) -> None:
    wanted = needed(readings, policy).workers
    assume(wanted > readings.workers)
    assert decide(readings, policy, lately).workers == max(policy.least, min(wanted, policy.most))


@law
@given(readings_of(limited=False), policies(), lately_of)
def test_age_adds_a_worker_even_where_slots_are_free(
    readings: Readings, policy: ScalePolicy, lately: int | None
) -> None:
    readings = replace(readings, ready=max(1, readings.ready), oldest_age_seconds=policy.target_age_seconds * 1.01)
    assert decide(readings, policy, lately).workers >= min(readings.workers + 1, policy.most)


@law
@given(readings_of(), policies(), lately_of)
def test_nothing_that_is_ready_and_no_lack_of_room_add_no_worker(
    readings: Readings, policy: ScalePolicy, lately: int | None
) -> None:
    """What waits for a limit or a retry is neither ready nor running: this is all there is to see of it."""
    assume(policy.with_room(readings.running) <= readings.workers * per_worker(readings, policy))
    readings = replace(readings, ready=0, oldest_age_seconds=0.0)
    assert decide(readings, policy, lately).workers <= max(readings.workers, policy.least)


@law
@given(readings_of(), policies(), lately_of)
def test_a_worker_goes_only_when_none_of_the_last_while_needed_it(
    readings: Readings, policy: ScalePolicy, lately: int | None
) -> None:
    decision = decide(readings, policy, lately)
    if decision.workers < min(readings.workers, policy.most):
        assert lately is not None
        assert decision.workers >= lately


@law
@given(readings_of(), policies(), lately_of)
@example(replace(QUIET, ready=1, service_seconds=0.01), POLICY, 0)
def test_as_many_stay_as_begin_what_is_ready_within_the_target(
    readings: Readings, policy: ScalePolicy, lately: int | None
) -> None:
    decision = decide(readings, policy, lately)
    fed = sum(quota.slots(readings.service_seconds) for quota in readings.quotas) if readings.quotas else math.inf
    slots = per_worker(readings, policy)
    assume(decision.workers < policy.most)
    assume(decision.workers < max(readings.workers, math.ceil(policy.with_room(min(fed, 1e9)) / slots)))
    free = decision.workers * slots - readings.running
    rounds = max(1.0, policy.target_age_seconds / readings.service_seconds)
    assert free * rounds >= readings.ready - 1e-6 * max(1, readings.ready, readings.running * rounds)


@law
@given(readings_of(), policies(), lately_of)
def test_no_worker_is_added_that_the_provider_could_not_feed(
    readings: Readings, policy: ScalePolicy, lately: int | None
) -> None:
    decision = decide(readings, policy, lately)
    if readings.quotas and decision.workers > max(readings.workers, policy.least):
        fed = sum(quota.slots(readings.service_seconds) for quota in readings.quotas)
        assert (decision.workers - 1) * per_worker(readings, policy) < policy.with_room(fed) * 1.000001 + 1e-9


@law
@given(readings_of(), policies(), lately_of, st.integers(min_value=1, max_value=1_000))
def test_more_that_is_ready_never_means_fewer_workers(
    readings: Readings, policy: ScalePolicy, lately: int | None, more: int
) -> None:
    fuller = replace(readings, ready=readings.ready + more)
    assert decide(fuller, policy, lately).workers >= decide(readings, policy, lately).workers


def test_an_operator_can_read_why() -> None:
    assert decide(replace(QUIET, ready=300, oldest_age_seconds=4.0, running=20), POLICY, None).reason == (
        "300 ready and 20 running, 2.0 s each"
    )
    assert decide(replace(QUIET, ready=1, oldest_age_seconds=12.0), POLICY, 0).reason == (
        "ready for 12 s, 10 s are to be the most"
    )
    assert decide(replace(QUIET, running=19), POLICY, 0).reason == "19 of 20 slots taken, 7 are to be free"
    limited = replace(QUIET, ready=3_000, quotas=(Quota(starts_per_second=20.0),))
    assert decide(limited, POLICY, 0).reason.endswith("; the limits feed no more than 40 at once")
    assert decide(QUIET, POLICY, None).reason.endswith("; not seen for 60 s yet")
    assert decide(QUIET, POLICY, 2).reason.endswith("; more were needed within 60 s")
    assert decide(QUIET, POLICY, 1).reason.endswith("; for 60 s no more than 1 were needed")
    assert decide(QUIET, replace(POLICY, most=1), None).reason.endswith("; 1 is the most")


def test_while_a_circuit_is_open_nobody_is_added() -> None:
    full = replace(QUIET, ready=500, oldest_age_seconds=60.0, running=20, quotas=(Quota(0.0, 0.0),))
    assert decide(full, POLICY, None).workers == QUIET.workers
