import json
import subprocess
import sys

import click
import pytest

from workers.cli.main import COMMANDS, cli, run

HEAVY = {"celery", "redis", "chatkit", "agents", "sqlalchemy", "fastapi", "uvicorn", "httpx", "pydantic", "rich"}


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    children = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [leaf for name, child in children if child is not None for leaf in leaves(child, (*path, name))]


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS)


def test_the_commands_of_the_contract_are_there() -> None:
    names = {" ".join(path) for path, _ in leaves(cli)}
    wanted = {"up", "demo", "worker", "gateway", "flower", "publish", "schema", "config", "doctor", "stats"}
    assert names >= wanted | {"events show", "events tail", "events cancel", "db upgrade"}


@pytest.mark.parametrize("path", [path for path, _ in leaves(cli)], ids=" ".join)
def test_every_command_takes_json_and_debug(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    said = capsys.readouterr().out
    assert "--json" in said
    assert "--debug" in said


def test_showing_the_help_of_any_command_loads_nothing_heavy() -> None:
    code = (
        "import json, sys\n"
        "from workers.cli.main import COMMANDS, run\n"
        "for name in COMMANDS: run([name, '--help'])\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert HEAVY & set(json.loads(answer.stdout.splitlines()[-1])) == set()


def test_wrong_usage_exits_with_2_and_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["nope"], ["publish"], ["gateway", "--port", "many"], ["events", "show"], ["stats", "--nope"]):
        assert run(arguments) == 2
        assert "Error: " in capsys.readouterr().err
