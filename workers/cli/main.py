"""`chatkit-workers`: the operators' commands. Each loads what it needs when it runs, so that `--help` is quick."""

import sys
from importlib import import_module
from typing import Any, NoReturn

import click

COMMANDS = {
    "up": "Run the whole stack here, until Ctrl-C: Redis, database, worker, gateway, Flower.",
    "demo": "Run the stack, show a conversation through it, and end.",
    "worker": "Run a worker; takes the options of `celery worker`.",
    "gateway": "Run the HTTP gateway.",
    "autoscale": "Run as many workers on this host as the load needs, or simulate it.",
    "flower": "Run Flower, the dashboard of tasks.",
    "publish": "Put events on the queue.",
    "events": "Show, follow or cancel one event.",
    "lanes": "Show which conversations wait longest, and why.",
    "dead": "List, show, redrive or purge dead letters.",
    "sessions": "List or revoke the sessions of users.",
    "limits": "Show or change rate limits at run time.",
    "pause": "Keep events of a type, a tenant or a queue from beginning.",
    "resume": "Let what was paused go on.",
    "stats": "Show depth, age, lanes and workers.",
    "config": "Print every setting.",
    "doctor": "Check each part, and say what to do.",
    "db": "Make or migrate the tables.",
    "chaos": "Break a deployment of its own, and check what may never happen.",
    "schema": "Print the JSON Schema and AsyncAPI documents.",
}
"""Name and one line of each command; the command `x` is `workers.cli.x:command`."""


class LazyGroup(click.Group):
    """Imports a command's module only when it is that command that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"workers.cli.{cmd_name}").command
        command.help = command.help or COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list for `--help`, from the table above instead of from the modules."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chatkit-workers")
def cli() -> None:
    """ChatKit conversations off the web process and onto a queue.

    Settings come from the environment (`chatkit-workers config` lists them). Exit code: 0 done, 1 failed, 2 usage.
    """


def run(arguments: list[str]) -> int:
    """Run a command line and answer its exit code."""
    try:
        code: Any = cli.main(arguments, prog_name="chatkit-workers", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 1
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))
