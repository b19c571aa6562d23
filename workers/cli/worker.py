"""`worker`: Celery's worker in this process, after a check that its state can be reached."""

import asyncio

import click

from workers.cli.command import Command


@click.command(
    cls=Command,
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    epilog="All other options are those of `celery worker`: -Q, -n, -c, -l, --autoscale, …",
)
@click.argument("celery_options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, celery_options: tuple[str, ...]) -> None:
    """Run a worker until SIGTERM or Ctrl-C: turns get CHATKIT_DRAIN_SECONDS to finish, then other workers take them.

    Prints "ready" on stderr when it consumes. The same as `celery -A workers.app worker`.
    """
    from workers.cli.connections import check_parts
    from workers.settings import load_settings

    asyncio.run(check_parts(load_settings()))
    from celery.bin.celery import celery

    # not `app.start`: it loses the exit code of a worker that could not start
    code: object = celery.main(["-A", "workers.app", "worker", *celery_options], "celery", standalone_mode=False)
    ctx.exit(code if isinstance(code, int) else 0)
