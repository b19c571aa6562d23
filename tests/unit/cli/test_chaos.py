"""`chatkit-workers chaos`, as far as it starts nothing."""

import json

import pytest
from click.testing import CliRunner

from workers.chaos.plan import FaultKind
from workers.cli.chaos import command


def test_the_kinds_of_faults_are_listed() -> None:
    assert CliRunner().invoke(command, ["--list"]).stdout.splitlines() == list(FaultKind)


def test_the_list_is_objects_with_json() -> None:
    lines = CliRunner().invoke(command, ["--list", "--json"]).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [{"fault": kind} for kind in FaultKind]


@pytest.mark.parametrize("option", [["--minutes", "0"], ["--lease", "0.1"], ["--fsync", "never"], ["--seeds", "0"]])
def test_a_wrong_option_is_a_usage_error(option: list[str]) -> None:
    assert CliRunner().invoke(command, option).exit_code == 2


def test_without_a_redis_server_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    result = CliRunner().invoke(command, ["--minutes", "0.1"])
    assert result.exit_code == 1
    assert result.stderr == (
        "error: redis-server is not on the PATH: it is the only Redis that can be killed and come back\n"
    )
