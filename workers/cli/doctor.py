"""`doctor`: checks each part of a deployment, and says what to do about what is wrong."""

import asyncio
from typing import TYPE_CHECKING

import click

from workers.cli.command import FAILED, Command, Output

if TYPE_CHECKING:
    from workers.cli.checks import Finding


@click.command(cls=Command)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Check settings, Redis, broker, database, clock, keys and model. Exit code 1 when something fails."""
    output: Output = ctx.obj
    findings = asyncio.run(_examine())
    for finding in findings:
        output.record(finding.as_record(), finding.as_text())
    failed = sum(finding.level == "fail" for finding in findings)
    warned = sum(finding.level == "warn" for finding in findings)
    output.note(f"{len(findings)} checks: {failed} failed, {warned} with a warning")
    if failed:
        ctx.exit(FAILED)


async def _examine() -> "list[Finding]":
    from workers.cli.checks import check_everything

    return await check_everything()
