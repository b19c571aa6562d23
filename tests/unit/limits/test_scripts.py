"""Every script of the limits says what it promises."""

from pathlib import Path

import pytest

import workers.limits
from workers.lanes.scripts import script
from workers.limits.limiter import PACKAGE

FOLDER = Path(workers.limits.__file__).parent / "scripts"
INCLUDED = {"model", "line", "eta"}
NAMES = sorted(path.stem for path in FOLDER.glob("*.lua") if path.stem not in INCLUDED)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_begins_with_its_promise_keys_arguments_and_reply(name: str) -> None:
    header = [line for line in (FOLDER / f"{name}.lua").read_text().splitlines() if line.startswith("--")]
    assert header[0].startswith(f"-- {name}: ")
    for word in ("Promise:", "Keys:", "Arguments:", "Reply:"):
        assert any(line.startswith(f"-- {word}") for line in header), word


@pytest.mark.parametrize("name", NAMES)
def test_no_include_is_left_open(name: str) -> None:
    assert "--@include" not in script(name, PACKAGE).source
