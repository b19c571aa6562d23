"""What `stats --watch` shows."""

from typing import Any

from rich.console import Console

from schemas.outcome import EventState
from workers.cli.look import Look
from workers.cli.stats import lines, record_of
from workers.cli.watch import view
from workers.lanes.figures import Load
from workers.lanes.records import Depth
from workers.limits.limiter import ModelStatus

MODEL = ModelStatus("gpt-4.1", 60, None, 4, 1.0, 0.0, "open", 12.0, 3, 7, 500.0, 0.5, None, 0.75)


def look(at: float = 10.0, done: int = 100, **changes: Any) -> Look:
    states = dict.fromkeys(EventState, 0) | {EventState.QUEUED: 1234, EventState.DONE: done}
    depth = Depth(
        states=states,
        oldest_age_seconds=3725.0,
        lanes=9,
        dropped={},
        dead={"bug": 2},
        dead_kept=2,
        fenced_writes=0,
        fenced={},
        ended={},
        retried={"transient": 4},
        frames=1000,
        ready=3,
        ready_age_seconds=1.0,
    )
    fields: dict[str, Any] = {
        "at": at,
        "depth": depth,
        "paused": ["tenant:acme"],
        "models": [MODEL],
        "workers": ["host:1", "host:2"],
        "loads": {"host:1": Load(150, 200)},
        **changes,
    }
    return Look(**fields)


def shown(now: Look, before: Look | None = None, width: int = 120) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(view(now, before))
    return [" ".join(line.replace("│", " ").split()) for line in capture.get().splitlines()]


def test_it_shows_depth_age_workers_limits_and_trouble() -> None:
    text = "\n".join(shown(look()))
    for line in (
        "queued 1,234",
        "oldest 1 h 2 min",
        "dead: bug 2",
        "paused: tenant:acme",
        "workers: 2",
        "host:1 150 200 ███████████████░░░░░",
        "gpt-4.1 3 7 50% no limit 75% open, 12 s",
    ):
        assert line in text, text


def test_rates_are_those_since_the_last_look() -> None:
    assert "done 150 12.5" in "\n".join(shown(look(at=14.0, done=150), look(at=10.0, done=100)))
    assert "done 100 " in "\n".join(f"{line} " for line in shown(look()))


def test_it_fits_a_narrow_terminal() -> None:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(view(look(), None))
    assert max(len(line) for line in capture.get().splitlines()) <= 80


def test_a_deployment_without_workers_says_so() -> None:
    assert "none: nothing is worked on" in "\n".join(shown(look(workers=[], loads={})))


def test_a_worker_that_takes_no_more_is_said_to_drain() -> None:
    assert "host:1 3 drains" in shown(look(loads={"host:1": Load(3, 0)}))


def test_the_figures_stand_in_columns_and_a_draining_worker_is_not_three_of_none() -> None:
    figures = record_of(look(loads={"host:1": Load(3, 0), "host:2": Load(1, 5)}))
    assert figures["loads"] == {"host:1": "3, drains", "host:2": "1 of 5"}
    text = lines({"dead": {"attempts_exhausted": 2, "bug": 1}, "lanes": 9})
    assert {len(line) for line in text if line != "dead"} == {32}
