"""Every script says what it promises."""

from importlib.resources import files

import pytest

from workers.autoscale.recent import PACKAGE as AUTOSCALE
from workers.lanes.scripts import LANES, script
from workers.limits.limiter import PACKAGE as LIMITS
from workers.sessions.store import PACKAGE as SESSIONS

INCLUDED = {
    LANES: {"burst", "clock", "fence", "frames", "ending", "dead", "paused", "reading", "stopping", "turns", "window"},
    LIMITS: {"model", "line", "eta", "newcomer"},
    AUTOSCALE: set(),
    SESSIONS: {"live", "revoking"},
}
"""Parts of scripts."""

SCRIPTS = [
    (package, path.name.removesuffix(".lua"))
    for package in INCLUDED
    for path in sorted((files(package) / "scripts").iterdir(), key=lambda path: path.name)
    if path.name.endswith(".lua") and path.name.removesuffix(".lua") not in INCLUDED[package]
]


@pytest.mark.parametrize(("package", "name"), SCRIPTS)
def test_a_script_begins_with_its_promise_keys_arguments_and_reply(package: str, name: str) -> None:
    text = (files(package) / "scripts" / f"{name}.lua").read_text()
    header = [line for line in text.splitlines() if line.startswith("--")]
    assert header[0].startswith(f"-- {name}: ")
    for word in ("Promise:", "Keys:", "Arguments:", "Reply:"):
        assert any(line.startswith(f"-- {word}") for line in header), word


@pytest.mark.parametrize(("package", "name"), SCRIPTS)
def test_no_include_is_left_open(package: str, name: str) -> None:
    assert "--@include" not in script(name, package).source
