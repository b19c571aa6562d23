"""`gateway`: the HTTP gateway under uvicorn."""

import asyncio

import click

from workers.cli.command import Command, Output


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 picks a free one."
)
@click.option("--kills", type=click.IntRange(3), hidden=True, help="Descriptor of the stack that takes kill requests.")
@click.pass_obj
def command(output: Output, host: str, port: int, kills: int | None) -> None:
    """Run the HTTP gateway until SIGTERM or Ctrl-C. Open streams end; clients go on elsewhere with Last-Event-ID.

    It speaks plain HTTP, to this machine. Others reach it through a proxy with TLS: name its address in
    CHATKIT_PUBLIC_URL=https://…, and have it set X-Forwarded-Proto.
    """
    from workers.cli.connections import check_parts
    from workers.cli.serving import check_reach, listen, serve
    from workers.settings import load_settings
    from workers.telemetry.logging import configure_logging
    from workers.telemetry.otlp import end_tracing, init_tracing
    from workers.telemetry.sentry import init_sentry

    settings = load_settings()
    check_reach(host, settings)
    configure_logging(settings.log_level)
    init_sentry(role="gateway", **settings.sentry_options)
    init_tracing(role="gateway", **settings.tracing_options)
    with listen(host, port) as socket:
        asyncio.run(check_parts(settings))
        from workers.gateway.app import create_app, end_streams

        app, proxied = create_app(settings), settings.public_url is not None
        if kills is not None:
            from workers.embedded.breakage import let_break

            let_break(app, kills)
        try:
            asyncio.run(serve(app, socket, output, end_streams=end_streams, proxied=proxied))
        finally:
            end_tracing()
