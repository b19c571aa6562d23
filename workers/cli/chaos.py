"""`chaos`: a deployment of its own under faults from a seed, and whether it held."""

import asyncio
import signal
from pathlib import Path

import click

from workers.cli.command import Command, FiniteRange, Output


@click.command(cls=Command)
@click.option("--seed", type=int, default=1, show_default=True, help="Decides every fault, and what users say.")
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Runs, each of the next seed."
)
@click.option(
    "--minutes", type=FiniteRange(0.05, 1440), default=1.0, show_default=True, help="How long faults are injected."
)
@click.option("--lease", type=FiniteRange(0.5, 60), default=1.0, show_default=True, help="CHATKIT_LEASE_TTL, s.")
@click.option(
    "--fsync",
    type=click.Choice(["always", "everysec"]),
    default="always",
    show_default=True,
    help="Redis' appendfsync: with everysec, what a kill loses is counted.",
)
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Folder that keeps records and logs.")
@click.option("--flood/--no-flood", default=True, show_default=True, help="Begin each run with a flood of one tenant.")
@click.option("--baseline", is_flag=True, help="Do the same to the usual way: Celery's acks_late and Redis pub/sub.")
@click.option("--list", "list_kinds", is_flag=True, help="List the kinds of faults, and end.")
@click.pass_context
def command(
    ctx: click.Context,
    seed: int,
    seeds: int,
    minutes: float,
    lease: float,
    fsync: str,
    keep: Path | None,
    flood: bool,
    baseline: bool,
    list_kinds: bool,
) -> None:
    """Start a Redis, workers, gateways, a fake model and clients here, break them, and check what may never happen.

    Everything is on free ports of the loopback address and ends with the command. Exit code 1: an invariant failed.
    """
    from workers.chaos.command import Options, list_faults, run_all
    from workers.chaos.report import compared

    output: Output = ctx.obj
    if list_kinds:
        list_faults(output.record)
        return
    options = Options(
        seed=seed,
        seeds=seeds,
        seconds=minutes * 60,
        lease_seconds=lease,
        fsync="always" if fsync == "always" else "everysec",
        keep=keep,
        flood=flood,
        baseline=baseline,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends all that was started, as Ctrl-C does
    reports = asyncio.run(run_all(options, output.note))
    for report in reports:
        output.record(report.record(), "\n".join([*report.lines(), ""]))
    if baseline and not output.as_json:
        output.record({}, "\n".join(compared(reports)))
    ctx.exit(0 if reports[0].passed else 1)
