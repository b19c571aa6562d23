import json
import subprocess
import sys
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner, Result

from workers.cli.command import Command, CommandFailedError, Output


def invoke(error: Exception, *arguments: str) -> Result:
    @click.command(cls=Command)
    def fail() -> NoReturn:
        raise error

    return CliRunner().invoke(fail, arguments)


def test_a_failure_is_one_line_on_stderr_and_exit_code_1() -> None:
    result = invoke(CommandFailedError("Redis cannot be reached: start it"))
    assert result.exit_code == 1
    assert result.stderr == "error: Redis cannot be reached: start it\n"
    assert result.stdout == ""


def test_every_line_of_a_failure_is_marked() -> None:
    assert invoke(CommandFailedError("one\ntwo")).stderr == "error: one\nerror: two\n"


def test_an_unexpected_error_is_one_line_too() -> None:
    result = invoke(ZeroDivisionError("division by zero\nwith a second line"))
    assert result.exit_code == 1
    assert result.stderr == "error: unexpected ZeroDivisionError: division by zero (--debug shows where)\n"


def test_debug_shows_the_traceback() -> None:
    result = invoke(ZeroDivisionError("division by zero"), "--debug")
    assert "Traceback (most recent call last)" in result.stderr
    assert "test_command.py" in result.stderr


def test_with_json_an_error_is_an_object_with_its_reason() -> None:
    result = invoke(CommandFailedError("no such event"), "--json")
    assert json.loads(result.stderr) == {"error": "no such event", "reason": "failed"}


def test_a_reader_that_has_had_enough_is_no_failure() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.cli", "config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, b"")


def test_a_record_is_text_or_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    Output().record({"id": "evt_1"}, "evt_1 queued")
    Output(as_json=True).record({"id": "evt_1"}, "evt_1 queued")
    assert capsys.readouterr().out.splitlines() == ["evt_1 queued", '{"id": "evt_1"}']


def test_a_table_aligns_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table([("id", "evt_1"), ("state", "done"), ("reason", None)])
    assert capsys.readouterr().out.splitlines() == ["id      evt_1", "state   done", "reason  -"]
