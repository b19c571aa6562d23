"""What every command shares: `--json`, `--debug`, one clear line for each error, the exit codes 0, 1 and 2."""

import json
import math
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from schemas.errors import WorkersError

FAILED = 1


class CommandFailedError(WorkersError):
    """A command could not do its work. The message is what the user reads: what is wrong, and what to do."""

    reason = "failed"


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command writes: results on stdout, as text or as one JSON object per line; all else on stderr."""

    as_json: bool = False
    debug: bool = False

    def record(self, record: Mapping[str, Any], text: str) -> None:
        """A result, in the form that was asked for."""
        print(json.dumps(record, default=str, ensure_ascii=False) if self.as_json else text, flush=True)

    def table(self, rows: Iterable[tuple[str, object]]) -> None:
        """Names and values in two columns; one object as JSON."""
        rows = list(rows)
        width = max((len(name) for name, _ in rows), default=0)
        self.record(dict(rows), "\n".join(f"{name:<{width}}  {_shown(value)}".rstrip() for name, value in rows))

    def note(self, text: str) -> None:
        """Progress, or a hint: for people, never part of the result."""
        print(text, file=sys.stderr, flush=True)

    def error(self, error: BaseException) -> None:
        """The error as its lines on stderr (an object with `--json`); the traceback only with `--debug`."""
        if self.debug:
            traceback.print_exception(error)
        reason, message = describe(error)
        if self.as_json:
            print(json.dumps({"error": message, "reason": reason}, ensure_ascii=False), file=sys.stderr)
        else:
            for line in message.splitlines():
                print(f"error: {line}", file=sys.stderr)


def describe(error: BaseException) -> tuple[str, str]:
    """Reason and message of an error. Ours say what to do; of others one line is all that a user is shown."""
    if isinstance(error, WorkersError):
        return error.reason, str(error)
    first = next(iter(str(error).splitlines()), "").strip()
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return "bug", f"unexpected {said} (--debug shows where)"


class FiniteRange(click.FloatRange):
    """A number within bounds. Python's `nan` is within all of them, and `inf` above each that is open."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        return number if math.isfinite(number) else self.fail(f"{value} is no number to go by", param, ctx)


class Command(click.Command):
    """A command with `--json` and `--debug`. Its function gets the `Output` as the context's object."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="One JSON object per line."),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        output = Output(ctx.params.pop("as_json"), ctx.params.pop("debug"))
        ctx.obj = output
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            _forget_stdout()  # the reader (`| head`) has had enough
            ctx.exit(0)
        except Exception as error:  # noqa: BLE001  # the last net: a user is shown a line, not a traceback
            output.error(error)
            ctx.exit(FAILED)


class CommandGroup(click.Group):
    """A group of such commands."""

    command_class = Command


def _forget_stdout() -> None:
    """What is still buffered goes nowhere; else Python complains at exit that it cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _shown(value: object) -> str:
    return "-" if value is None else str(value)
