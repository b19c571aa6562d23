"""`up`: the whole stack on this machine, until Ctrl-C."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from workers.cli.command import Command, CommandFailedError, Output

FOLDER = Path(".chatkit")


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port of the gateway.")
@click.option("--flower-port", type=click.IntRange(1, 65535), default=5555, show_default=True, help="Port of Flower.")
@click.option("--workers", type=click.IntRange(1, 32), default=1, show_default=True, help="Worker processes.")
@click.pass_obj
def command(output: Output, port: int, flower_port: int, workers: int) -> None:
    """Run Redis, database, workers, gateway and Flower here, until Ctrl-C. Data and logs are in .chatkit/."""
    if port == flower_port:
        raise click.UsageError("--port and --flower-port are the same: two servers need two ports")
    from workers.embedded import Plan, Stack
    from workers.embedded.stack import OWN
    from workers.settings import load_settings

    settings = load_settings()
    for variable in sorted(OWN & os.environ.keys()):
        output.note(f"{variable} is not used here: the stack has a Redis and a database of its own")
    if settings.scripted:
        output.note("OPENAI_API_KEY is not set: a scripted model answers")
    plan = Plan(FOLDER, port, flower_port, workers=workers, keep=True)
    output.note("starting …")
    with _alone(plan.folder), Stack(plan, output.note).running() as stack:
        try:
            output.table(
                [
                    ("gateway", plan.gateway_url),
                    ("playground", f"{plan.gateway_url}/"),
                    ("flower", plan.flower_url),
                    ("redis", plan.redis_url),
                    ("service_key", plan.service_key),
                    ("logs", str(plan.folder / "logs")),
                ]
            )
            output.note("Ctrl-C stops it")
            stack.watch()
        except KeyboardInterrupt:  # whoever has read the table may end it before anything is watched
            output.note("stopping …")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One stack per folder: two Redis servers would write the same file."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        why = f"{folder.resolve()} cannot be written ({error.strerror})"
        raise CommandFailedError(f"{why}: start it in a folder where it can keep its data") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CommandFailedError(f"another stack is running in {folder.resolve()}: stop it first") from None
        yield
