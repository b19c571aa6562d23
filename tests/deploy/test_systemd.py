"""The systemd units: what systemd makes of them, and what it does not ask."""

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.conftest import leave_out
from tests.deploy.reading import DEPLOY, VARIABLES, example

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
INSTALLED = "/opt/chatkit/bin/chatkit-workers"
MOST_EXPOSED = 2.5


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units in a folder, as if the program were installed where they look for it."""
    if shutil.which("systemd-analyze") is None:
        leave_out("systemd-analyze")
    for unit in (DEPLOY / "systemd").iterdir():
        text = unit.read_text().replace(INSTALLED, sys.executable)
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def read(unit: Path) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    parser.read(unit)
    return parser


def test_systemd_takes_the_units(installed: Path) -> None:
    files = [path for path in installed.iterdir() if path.suffix in (".service", ".target")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "chatkit" in line]
    assert (done.returncode, ours) == (0, [])


def test_systemd_would_see_a_key_that_there_is_not(installed: Path) -> None:
    unit = installed / "chatkit-gateway.service"
    unit.write_text(unit.read_text().replace("NoNewPrivileges=", "NoNewPrivilege="))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert "NoNewPrivilege" in done.stderr


@pytest.mark.parametrize("name", [unit.name for unit in UNITS])
def test_a_unit_is_hardly_exposed(installed: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", installed / name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_the_program_without_rights_and_is_started_again(unit: Path) -> None:
    service = read(unit)["Service"]
    assert service["ExecStart"].split()[0] == INSTALLED
    assert service["EnvironmentFile"] == "/etc/chatkit/env"
    assert service["DynamicUser"] == "yes"
    if service["Type"] != "oneshot":
        assert service["Restart"] == "always"
        assert read(unit)["Unit"]["StartLimitIntervalSec"] == "0", "an outage of a minute must not end it for good"


def test_a_worker_is_given_more_time_than_it_takes_to_drain() -> None:
    drain = float(example("systemd/env.example")["CHATKIT_DRAIN_SECONDS"])
    assert float(read(DEPLOY / "systemd/chatkit-worker@.service")["Service"]["TimeoutStopSec"]) >= drain + 10


def test_the_example_names_settings_that_there_are() -> None:
    assert example("systemd/env.example").keys() - {"FLOWER_BASIC_AUTH"} <= VARIABLES
