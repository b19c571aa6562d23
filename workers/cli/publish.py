"""`publish`: events onto the queue, as an upstream service does it; each is answered by what the queue did with it."""

import asyncio
from collections.abc import Iterator

import click

from workers.cli.command import FAILED, Command, FiniteRange, Output

DEFAULT_TIMEOUT_SECONDS = 30.0


@click.command(cls=Command)
@click.argument("file", required=False)
@click.option("--wait", is_flag=True, help="Print the answer's text as it streams.")
@click.option("--count", type=click.IntRange(1), help="Publish this many events: those of FILE in turn, with new ids.")
@click.option("--rate", type=FiniteRange(0, min_open=True), help="At most this many events a second.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=FiniteRange(0, min_open=True),
    default=DEFAULT_TIMEOUT_SECONDS,
    show_default=True,
    help="Seconds to wait for the records of acceptance.",
)
@click.pass_context
def command(
    ctx: click.Context, file: str | None, wait: bool, count: int | None, rate: float | None, timeout_seconds: float
) -> None:
    """Publish the events of FILE (one JSON object per line; - reads stdin), and say what the queue did with each.

    Prints `evt_… queued` or `evt_… duplicate`; a refused or invalid event gets an error line, and exit code 1.
    With --count and no FILE a sample question is published.
    """
    if file is None and count is None:
        raise click.UsageError("give FILE, - for stdin, or --count for sample events")
    output: Output = ctx.obj
    from workers.cli.publishing import Options, Publishing
    from workers.cli.sources import Line, read_lines, repeat, sample
    from workers.settings import load_settings

    def lines() -> Iterator[Line]:
        given = read_lines(file) if file else iter([sample()])
        return given if count is None else repeat(list(given), count)

    options = Options(wait=wait, rate=rate, total=count, timeout_seconds=timeout_seconds)
    refused = asyncio.run(Publishing(load_settings(), output, options).run(lines()))
    if refused:
        ctx.exit(FAILED)
