"""Serving an ASGI app: errors at the start as one line, an orderly end on SIGTERM and Ctrl-C."""

import asyncio
import errno
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import AF_INET, AF_INET6, create_server, socket

import uvicorn
from fastapi import FastAPI

from workers.cli.command import CommandFailedError, Output
from workers.errors import SettingsError
from workers.settings import Settings
from workers.transport import is_loopback

BACKLOG = 2048
CLOSE_SECONDS = 5
"""How long open requests may take to end. The streams are told to end at once, and clients resume elsewhere."""


def listen(host: str, port: int) -> socket:
    """A listening socket.

    Raises:
        CommandFailedError: the port is taken, not allowed, or the address is none of this machine.
    """
    family = AF_INET6 if ":" in host else AF_INET
    try:
        return create_server((host, port), family=family, backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandFailedError(
                f"{host}:{port} is taken: stop what listens there, or choose another port with --port"
            ) from error
        raise CommandFailedError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def check_reach(host: str, settings: Settings) -> None:
    """Plain HTTP is for this machine; for others there has to be a proxy with TLS.

    Raises:
        SettingsError: the address is one for others, and no proxy is declared.
    """
    if settings.public_url is None and not is_loopback(host):
        raise SettingsError(
            f"--host {host}: others would reach the gateway without TLS; put a proxy with TLS before it and name its "
            "address in CHATKIT_PUBLIC_URL=https://…, or listen on 127.0.0.1"
        )


async def serve(
    app: FastAPI,
    sock: socket,
    output: Output,
    *,
    end_streams: Callable[[FastAPI], None],
    proxied: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT. What the app's start raises is raised here.

    Args:
        app: the gateway.
        sock: listening.
        output: is told the address.
        end_streams: lets the app's open streams end, before the server waits for its connections.
        proxied: there is a proxy before it, which says who the client is and whether it came by TLS.
    """
    config = uvicorn.Config(
        app,
        log_config=None,  # its loggers go where all others go
        access_log=False,
        lifespan="off",  # run below, where its errors are ours; uvicorn would print a traceback
        timeout_graceful_shutdown=CLOSE_SECONDS,
        server_header=False,
        forwarded_allow_ips="*" if proxied else None,
    )
    server = _Server(config, before_shutdown=lambda: end_streams(app))
    async with app.router.lifespan_context(app):
        host, port = sock.getsockname()[:2]
        output.note(f"gateway on http://{f'[{host}]' if ':' in host else host}:{port}")
        await server.serve(sockets=[sock])


class _Server(uvicorn.Server):
    """uvicorn raises the signal again once it has served, which would kill the process before the app has closed."""

    def __init__(self, config: uvicorn.Config, *, before_shutdown: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_shutdown = before_shutdown

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self._before_shutdown()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
