"""`flower`: the dashboard of tasks."""

import os

import click

from workers.cli.command import Command, CommandFailedError

OPEN = (
    "flower: whoever reaches {host}:{port} may look, and stop tasks; --basic_auth=USER:PASSWORD asks them who they are"
)
REFUSED = (
    "--host {host}: others could look at every task, and stop it; add --basic_auth=USER:PASSWORD (or set "
    "FLOWER_BASIC_AUTH=USER:PASSWORD), or listen on 127.0.0.1"
)


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=5555, show_default=True, help="Port.")
@click.argument("flower_options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, host: str, port: int, flower_options: tuple[str, ...]) -> None:
    """Run Flower until SIGTERM or Ctrl-C; other options are Flower's own. It finds an event by its id (evt_…).

    Beyond this machine it wants --basic_auth=USER:PASSWORD or FLOWER_BASIC_AUTH. Its HTTP API wants it everywhere, or
    FLOWER_UNAUTHENTICATED_API=true.

    It keeps the newest 20,000 tasks in memory (--max_tasks=N); --persistent=True --db=FILE keeps them over a restart.
    On RabbitMQ the lengths of queues come from its management API: --broker_api=http://USER:PASSWORD@HOST:15672/api/
    """
    from celery import Celery
    from kombu.connection import Connection

    from workers.broker import queues, transport_options
    from workers.cli.connections import check_broker
    from workers.cli.serving import listen
    from workers.settings import load_settings
    from workers.telemetry.flower import COLUMNS, MAX_TASKS
    from workers.tls import tls_options

    settings = load_settings()
    is_open = check_reach(host, flower_options)
    listen(host, port).close()  # a taken port as one line, not as Flower's traceback
    check_broker(settings)
    # Flower needs the broker only; the whole app would load the agents and the database for nothing.
    app = Celery("chatkit-workers", broker=settings.broker_url, set_as_current=False)
    # Beside kombu's connection Flower has one of its own, which knows only this of the TLS options in the URL.
    url = settings.broker_url
    tls = Connection(url, ssl=tls_options(url)).ssl  # type: ignore[no-untyped-call]  # kombu has no types
    app.conf.update(
        broker_connection_retry_on_startup=True,
        accept_content=["json"],
        broker_use_ssl=tls,
        broker_transport_options=transport_options(settings),
        task_queues=queues(settings),  # of its queues page, before any worker has said what it consumes
        task_default_queue=queues(settings)[0].name,
    )
    show_events()
    if is_open:
        click.echo(OPEN.format(host=host, port=port), err=True)
    ours = (f"--tasks_columns={','.join(COLUMNS)}", f"--max_tasks={MAX_TASKS}")
    ctx.exit(app.start(["flower", f"--address={host}", f"--port={port}", *ours, *flower_options]) or 0)


def check_reach(host: str, flower_options: tuple[str, ...]) -> bool:
    """Whether Flower, which shows everything and stops anything, asks nobody on this machine who they are.

    Raises:
        CommandFailedError: others could reach it, and it would ask nobody who they are.
    """
    from workers.telemetry.flower import address_of, asks_who_is_there
    from workers.transport import is_loopback

    if asks_who_is_there(flower_options, os.environ):
        return False
    address = address_of(flower_options, host)
    if not is_loopback(address):
        raise CommandFailedError(REFUSED.format(host=address))
    return not os.environ.get("FLOWER_UNAUTHENTICATED_API")  # whoever says that knows


def show_events() -> None:
    """Make Flower's rows say what an operator looks for."""
    from flower.options import options
    from flower.views.tasks import TASK_COLUMNS

    from workers.telemetry.flower import COLUMNS, format_task

    options.format_task = format_task
    TASK_COLUMNS.update(COLUMNS)
