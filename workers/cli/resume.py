"""`resume`: let what was paused go on."""

import asyncio

import click

from workers.cli.command import Command, CommandFailedError, Output
from workers.cli.pausing import named, one_thing, with_pauses


@click.command(cls=Command)
@one_thing
@click.pass_obj
def command(output: Output, type_: str | None, tenant: str | None, queue: str | None) -> None:
    """Let events of a type, a tenant or a queue begin again."""
    what = named(type_, tenant, queue)
    if what is None:
        raise click.UsageError("give --type, --tenant or --queue; `chatkit-workers pause` lists what is paused")
    if not asyncio.run(with_pauses(lambda pauses: pauses.resume(what))):
        raise CommandFailedError(f"{what} was not paused; `chatkit-workers pause` lists what is")
    output.record({"resumed": str(what)}, f"{what} goes on")
