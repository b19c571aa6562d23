"""`flower`: the dashboard of tasks."""

import click

from workers.cli.command import Command


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=5555, show_default=True, help="Port.")
@click.argument("flower_options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, host: str, port: int, flower_options: tuple[str, ...]) -> None:
    """Run Flower until SIGTERM or Ctrl-C; other options are Flower's own. It finds an event by its id (evt_…).

    Its HTTP API wants --basic_auth=USER:PASSWORD, or FLOWER_UNAUTHENTICATED_API=true on a closed network.
    """
    from celery import Celery
    from kombu.connection import Connection

    from workers.cli.connections import check_broker
    from workers.cli.serving import listen
    from workers.settings import load_settings
    from workers.tls import tls_options

    settings = load_settings()
    listen(host, port).close()  # a taken port as one line, not as Flower's traceback
    check_broker(settings)
    # Flower needs the broker only; the whole app would load the agents and the database for nothing.
    app = Celery("chatkit-workers", broker=settings.broker_url, set_as_current=False)
    # Beside kombu's connection Flower has one of its own, which knows only this of the TLS options in the URL.
    url = settings.broker_url
    tls = Connection(url, ssl=tls_options(url)).ssl  # type: ignore[no-untyped-call]  # kombu has no types
    app.conf.update(broker_connection_retry_on_startup=True, accept_content=["json"], broker_use_ssl=tls)
    ctx.exit(app.start(["flower", f"--address={host}", f"--port={port}", *flower_options]) or 0)
