"""`pause`: keep events of a type, a tenant or a queue from beginning."""

import asyncio

import click

from workers.cli.command import Command, Output
from workers.cli.pausing import named, one_thing, with_pauses


@click.command(cls=Command)
@one_thing
@click.pass_obj
def command(output: Output, type_: str | None, tenant: str | None, queue: str | None) -> None:
    """Keep events of a type, a tenant or a queue from beginning, until `resume`. Without an option: what is paused.

    Paused events are accepted and kept in order; what runs already goes on to its end.
    """
    from schemas.names import NAME_RULE, is_name

    # only here: what was paused under any name can be resumed
    if tenant is not None and not is_name(tenant):
        raise click.UsageError(f"--tenant: must be {NAME_RULE}")
    what = named(type_, tenant, queue)
    if what is None:
        paused = [str(one) for one in asyncio.run(with_pauses(lambda pauses: pauses.all()))]
        output.record({"paused": paused}, "\n".join(paused) or "nothing is paused")
        return
    new = asyncio.run(with_pauses(lambda pauses: pauses.pause(what)))
    output.record({"paused": str(what), "new": new}, f"{what} is paused" + ("" if new else " already"))
