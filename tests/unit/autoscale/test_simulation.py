"""The simulator: what it makes of a trace, and what it says of our decision on the three traces of the bench."""

from pathlib import Path
from typing import Any

import pytest

from tests.bench.traces.__main__ import HEADER, burst, daily, outage
from tests.cli_process import cli, settings
from workers.autoscale.decision import ScalePolicy
from workers.autoscale.simulation import START_SECONDS, Course, Ours, PlainDepth, Row, read_trace, simulate
from workers.cli.simulating import OURS, SHOWN_RIVAL, courses, name_of
from workers.errors import SettingsError

SLOTS = 20
POLICY = ScalePolicy(least=1, most=20, target_age_seconds=10.0, spare=1.5, idle_seconds=30.0, per_worker=SLOTS)
TRACES = Path(__file__).parents[2] / "bench" / "traces"


def ours(*rows: Row) -> Course:
    return simulate(rows, Ours(POLICY), SLOTS)


def test_the_same_trace_goes_the_same_way() -> None:
    rows = (Row(0, 5, 4, None), Row(120, 0, 4, None), Row(240, 0, 4, None))
    assert ours(*rows) == ours(*rows)


def test_what_begins_at_once_has_no_age_and_workers_cost_from_their_start() -> None:
    course = ours(Row(0, 0, 4, None), Row(60, 1, 4, None), Row(120, 0, 4, None))
    assert course.worker_seconds == 120
    assert course.p95_age_seconds == 0
    cold = ours(Row(0, 1, 4, None), Row(30, 0, 4, None))
    assert max(cold.ages) == START_SECONDS


def test_what_the_provider_does_not_let_through_starts_no_worker_of_ours_and_many_of_the_rival() -> None:
    rows = (Row(0, 0, 4, None), Row(60, 20, 4, 0.0), Row(300, 0, 4, 0.0))
    assert {moment.workers for moment in ours(*rows).moments} == {1}
    rival = simulate(rows, PlainDepth(SLOTS, 60, 1, 20), SLOTS)
    assert max(moment.workers for moment in rival.moments) == 20


def test_a_worker_that_drains_is_paid_for_until_its_last_event_has_ended() -> None:
    course = simulate(
        (Row(0, 4, 10, None), Row(100, 0, 60, None), Row(300, 0, 60, None)), PlainDepth(SLOTS, 1, 0, 20), SLOTS
    )
    assert course.moments[-1].workers == 0
    assert all(moment.workers for moment in course.moments if moment.running)


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["at,depth", "1,2"], "first line"),
        ([HEADER, "0,1,1,", "x,1,1,"], "line 3"),
        ([HEADER, "0,1,1,", "0,1,1,"], "line 3 of the trace: times"),
        ([HEADER, "0,1,0,", "1,1,1,"], "line 2"),
        ([HEADER, "0,1,1,"], "two rows"),
        ([HEADER, "0,1", "1,1"], "line 2"),
    ],
)
def test_a_trace_that_is_none_is_refused_with_its_line(lines: list[str], what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        read_trace(lines)


@pytest.mark.parametrize("trace", [daily, burst, outage])
def test_the_traces_are_what_their_seed_makes(trace: Any) -> None:
    assert (TRACES / f"{trace.__name__}.csv").read_text().splitlines() == [HEADER, *trace()]


def test_in_an_outage_ours_costs_less_than_half_of_every_rival_at_no_worse_an_age_than_its_target() -> None:
    found = courses(TRACES / "outage.csv", POLICY, SLOTS)
    mine = found.pop(OURS)
    assert mine.p95_age_seconds <= POLICY.target_age_seconds
    assert all(2 * mine.worker_seconds < rival.worker_seconds for rival in found.values())


@pytest.mark.parametrize("trace", ["daily", "burst", "outage"])
def test_it_costs_less_than_a_worker_for_each_of_its_slots_worth_and_meets_its_target_where_that_does(
    trace: str,
) -> None:
    """The rival has the cooldown that Kubernetes has when it is told nothing. Within one target age nobody can start
    the workers that a burst needs."""
    found = courses(TRACES / f"{trace}.csv", POLICY, SLOTS)
    mine, rival = found[OURS], found[name_of(*SHOWN_RIVAL)]
    assert mine.worker_seconds < rival.worker_seconds
    assert mine.p95_age_seconds <= max(rival.p95_age_seconds, POLICY.target_age_seconds)


async def test_the_command_prints_ours_and_the_whole_sweep_and_draws_them(tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    trace = str(TRACES / "burst.csv")
    done = await cli(
        *("autoscale", "--simulate", trace, "--slots", "20", "--max", "20", "--plot", str(picture), "--json"),
        env=settings(),
    )
    assert done.code == 0, done.err
    assert done.records[0]["strategy"] == OURS
    assert len(done.records) == 9
    assert picture.read_bytes().startswith(b"\x89PNG")


async def test_without_matplotlib_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError\n")
    done = await cli(
        *("autoscale", "--simulate", str(TRACES / "outage.csv"), "--slots", "20", "--plot", str(tmp_path / "out.png")),
        env=settings() | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"},
    )
    assert done.code == 1
    assert "pip install 'chatkit-workers[plot]'" in done.err


async def test_bounds_and_options_that_do_not_go_together_are_a_usage_error() -> None:
    for options in (["--min", "5", "--max", "2"], ["--plot", "x.png"], ["--simulate", "x.csv", "--min", "0"]):
        assert (await cli("autoscale", *options, env=settings())).code == 2, options
    missing = await cli("autoscale", "--simulate", "/nowhere.csv", env=settings())
    assert (missing.code, missing.err.strip()) == (1, "error: /nowhere.csv cannot be read (No such file or directory)")
