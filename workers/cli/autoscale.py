"""`autoscale`: as many workers on this host as the load needs; or how that would have gone."""

import asyncio
from pathlib import Path

import click

from workers.cli.command import Command, Output


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.option("--min", "least", type=click.IntRange(1), help="Workers at least; default CHATKIT_SCALE_MIN.")
@click.option("--max", "most", type=click.IntRange(1), help="Workers at most; default CHATKIT_SCALE_MAX.")
@click.option("--simulate", "trace", type=click.Path(path_type=Path), help="Start nothing: run this trace (CSV).")
@click.option("--slots", type=click.IntRange(1), help="Of a simulated worker; default CHATKIT_CONCURRENCY.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="Draw the simulation into this file.")
@click.argument("worker_options", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(
    output: Output,
    least: int | None,
    most: int | None,
    trace: Path | None,
    slots: int | None,
    picture: Path | None,
    worker_options: tuple[str, ...],
) -> None:
    """Start and drain worker processes on this host until SIGTERM or Ctrl-C, and print a line for each change.

    What follows `--` goes to each worker (`-- -Q chatkit.interactive -c 50`). A worker that is one too many finishes
    its turns, however long that takes. At the end turns get CHATKIT_DRAIN_SECONDS, then other workers take them.

    A trace has the columns at,arrivals_per_second,service_seconds,provider_per_second: what holds from a second on
    until the next row; the last row is the end. An empty provider_per_second is no limit.
    """
    from workers.autoscale.scale import policy_of
    from workers.settings import load_settings

    if trace is None and (picture is not None or slots is not None):
        raise click.UsageError("--plot and --slots go with --simulate")
    settings = load_settings()
    policy = policy_of(settings, least=least, most=most)
    if policy.least > policy.most:
        raise click.UsageError(f"at least {policy.least} workers (--min) is more than {policy.most} (--max)")
    if trace is not None:
        from workers.cli.simulating import courses, plot, show

        found = courses(trace, policy, slots or settings.concurrency)
        show(found, output)
        if picture is not None:
            plot(found, picture)
        return
    from workers.cli.connections import check_parts
    from workers.cli.supervising import Supervisor

    asyncio.run(check_parts(settings))
    asyncio.run(Supervisor(settings, policy, worker_options, output).run())
