"""The plan: the same seed, the same faults; a few short runs see every kind."""

from itertools import islice

from workers.chaos.faults import HOW
from workers.chaos.plan import LEAST_FAULTS, FaultKind, plan


def kinds(seed: int, count: int) -> list[FaultKind]:
    return [fault.kind for fault in islice(plan(seed, 1.0), count)]


def test_a_seed_gives_the_same_plan_every_time() -> None:
    assert list(islice(plan(7, 1.0), 100)) == list(islice(plan(7, 1.0), 100))


def test_another_seed_gives_another_plan() -> None:
    assert kinds(1, 20) != kinds(2, 20)


def test_three_short_runs_of_neighbouring_seeds_see_every_kind() -> None:
    for first in (1, 2, 40):
        seen = {kind for seed in range(first, first + 3) for kind in kinds(seed, LEAST_FAULTS)}
        assert seen == set(FaultKind)


def test_a_long_run_sees_every_kind_again_and_again() -> None:
    found = kinds(3, 4 * len(FaultKind))
    assert {found.count(kind) for kind in FaultKind} == {4}


def test_pauses_grow_with_the_lease() -> None:
    short, long = next(plan(1, 1.0)), next(plan(1, 10.0))
    assert long.pause == 10 * short.pause


def test_every_kind_can_be_injected() -> None:
    assert HOW.keys() == set(FaultKind)
