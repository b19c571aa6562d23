"""Fail points: what an entry says, who acts on it, and that they cost nothing when they are off."""

import dis
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from workers import clock, failpoints
from workers.failpoints import Action, Entry, FailPoint, FailPoints, hit_of

POINT = FailPoint.AFTER_MODEL_CHUNK


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of entries that nobody has looked into for a while."""
    os.utime(tmp_path, (1, 1))
    return tmp_path


def arm(folder: Path, entry: Entry, name: str = "one") -> Path:
    file = folder / f"{name}.arm"
    file.write_text(str(entry))
    return file


def step_of(point: FailPoint = POINT, **changes: object) -> Entry:
    """An entry that can be seen from inside of a test: it turns the clock by a second."""
    return Entry(point, Action.CLOCK, **{"seconds": 1.0, **changes})  # type: ignore[arg-type]  # fields of an entry


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """The steps of the clock, none of which is taken."""
    steps: list[timedelta] = []
    monkeypatch.setattr(clock, "step", steps.append)
    return steps


def test_off_it_is_a_function_whose_whole_code_returns_none() -> None:
    """Looking at the code cannot be slow on a busy machine, as a measured time can."""
    assert failpoints.hit is hit_of("")
    done = {instruction.opname for instruction in dis.get_instructions(failpoints.hit)}
    assert done <= {"RESUME", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("after_begin=kill", Entry(FailPoint.AFTER_BEGIN, Action.KILL)),
        ("after_model_chunk:37=kill,on=2", Entry(POINT, Action.KILL, 37, on=2)),
        (" before_settle=stall,seconds=2.5", Entry(FailPoint.BEFORE_SETTLE, Action.STALL, seconds=2.5)),
        ("after_begin=clock,seconds=-60", Entry(FailPoint.AFTER_BEGIN, Action.CLOCK, seconds=-60)),
    ],
)
def test_an_entry_is_read_and_written_as_it_is_documented(text: str, entry: Entry) -> None:
    assert Entry.parse(text) == entry
    assert Entry.parse(str(entry)) == entry


@pytest.mark.parametrize("text", ["nonsense", "after_begin=explode", "nowhere=kill", "after_begin=kill,at=3"])
def test_a_wrong_entry_ends_the_process_with_one_line_that_names_the_variable(text: str) -> None:
    with pytest.raises(SystemExit, match=r"^CHATKIT_FAILPOINTS: ") as ended:
        hit_of(text)
    assert "\n" not in str(ended.value)


def test_an_entry_acts_once_at_its_place_and_its_turn(stepped: list[timedelta]) -> None:
    points = FailPoints(str(step_of(index=3, on=2)))
    for index in (3, 2, 4):
        points.hit(POINT, index)
    points.hit(FailPoint.BEFORE_SETTLE, 3)
    assert not stepped
    points.hit(POINT, 3)
    points.hit(POINT, 3)
    assert stepped == [timedelta(seconds=1)]


def test_entries_of_one_variable_stand_side_by_side(stepped: list[timedelta]) -> None:
    points = FailPoints(f"{step_of(FailPoint.AFTER_BEGIN)};{step_of(seconds=5)}")
    points.hit(POINT)
    points.hit(FailPoint.AFTER_BEGIN)
    assert stepped == [timedelta(seconds=5), timedelta(seconds=1)]


def test_a_file_that_comes_later_is_found_and_taken_by_one_process_alone(
    folder: Path, stepped: list[timedelta]
) -> None:
    first, second = FailPoints(f"@{folder}"), FailPoints(f"@{folder}")
    for points in (first, second):
        points.hit(POINT)
    file = arm(folder, step_of())
    first.hit(POINT, subject="evt_1")
    second.hit(POINT)
    assert len(stepped) == 1
    told = json.loads(file.with_suffix(".hit").read_text())
    assert (told["pid"], told["subject"]) == (os.getpid(), "evt_1")
    assert not file.exists()


def test_a_file_that_is_withdrawn_does_nothing(folder: Path, stepped: list[timedelta]) -> None:
    points = FailPoints(f"@{folder}")
    file = arm(folder, step_of(on=2))
    points.hit(POINT)
    file.unlink()
    points.hit(POINT)
    assert not stepped


def test_a_file_that_comes_right_after_a_look_is_not_missed(folder: Path, stepped: list[timedelta]) -> None:
    """The time stamp of a folder is as coarse as the kernel's tick."""
    points = FailPoints(f"@{folder}")
    for number in range(20):
        arm(folder, step_of(), str(number))
        points.hit(POINT)
        assert len(stepped) == number + 1


def test_the_clock_of_the_process_is_turned() -> None:
    points = FailPoints(str(step_of(seconds=3600)))
    try:
        points.hit(POINT)
        assert clock.utc_now() - datetime.now(UTC) > timedelta(minutes=59)
    finally:
        clock.step(timedelta(hours=-1))
    assert clock.utc_now() - datetime.now(UTC) < timedelta(minutes=1)


def test_the_variable_is_read_when_the_process_starts() -> None:
    program = (
        "from workers.failpoints import *; hit(FailPoint.AFTER_BEGIN); hit(FailPoint.BEFORE_SETTLE); print('alive')"
    )
    environment = {**os.environ, "CHATKIT_FAILPOINTS": "before_settle=kill"}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (-9, b"")
