"""Opening what commands talk to, with errors that say what cannot be reached and what to do."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from ssl import SSLCertVerificationError

from workers.cli.command import CommandFailedError
from workers.lanes.connection import STATE_ERRORS, State, connect
from workers.lanes.deployment import keys_of, lanes_of
from workers.lanes.lanes import Lanes
from workers.settings import Settings, masked_url

BROKER = timedelta(seconds=5)
"""How long the broker may take to answer at the start."""


@contextmanager
def reaching(what: str, url: str, variable: str) -> Iterator[None]:
    """Turn the errors of a connection into one line that names the server, the fault and the variable."""
    try:
        yield
    except STATE_ERRORS as error:
        raise unreachable(what, url, variable, error) from error


def unreachable(what: str, url: str, variable: str, error: BaseException) -> CommandFailedError:
    """The error of a server that does not answer."""
    return CommandFailedError(
        f"{what} at {masked_url(url)} cannot be reached ({cause(error)}): start it, or set {variable}"
    )


def cause(error: BaseException) -> str:
    """Why a connection failed, in a few words: the operating system's if it has any."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, SSLCertVerificationError):
            return f"its certificate is not trusted: {seen.verify_message.rstrip('.')}"
        if isinstance(seen, OSError) and seen.errno:
            return os.strerror(seen.errno).lower() if seen.errno > 0 else str(seen.strerror or seen).lower()
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
        return "no answer in time"
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


@asynccontextmanager
async def open_state(settings: Settings) -> AsyncIterator[State]:
    """The state's client, after it has answered once."""
    state = connect(settings.state_url, max_connections=4)
    try:
        with reaching("Redis", settings.state_url, "CHATKIT_STATE_URL"):
            await state.ping()
            yield state
    finally:
        await state.aclose()


@asynccontextmanager
async def open_lanes(settings: Settings) -> AsyncIterator[tuple[Lanes, State]]:
    """The lanes of the deployment. Raises `SettingsError` when it was made with another number of shards."""
    async with open_state(settings) as state:
        lanes = lanes_of(settings, state, owner="chatkit-workers")
        if await state.exists(keys_of(settings).shard_count):  # reading a deployment must not be what decides it
            await lanes.check()
        yield lanes, state


def check_broker(settings: Settings) -> None:
    """Make sure that the broker answers, for a part that would only log, again and again, that it does not.

    Raises:
        CommandFailedError: it cannot be reached, or does not prove who it is.
    """
    from workers.broker import reach_broker

    try:
        reach_broker(settings.broker_url, BROKER)
    except Exception as error:  # kombu's transports raise errors of many unrelated classes
        raise unreachable("the broker", settings.broker_url, "CHATKIT_BROKER_URL", error) from error


async def check_parts(settings: Settings) -> None:
    """Make sure, before a part starts, that what it cannot do without is there.

    Raises:
        CommandFailedError: the state or the database cannot be reached, or has no tables.
        SettingsError: the deployment was made with another number of shards, or a plug-in or a route is wrong.
    """
    from workers.cli.database_check import DATABASE_ERRORS, read_tables
    from workers.plugins import router_of

    router_of(settings)
    async with open_lanes(settings):
        pass
    url = settings.database_url
    try:
        tables = await read_tables(url)
    except DATABASE_ERRORS as error:
        raise unreachable("the database", url, "CHATKIT_DATABASE_URL", error) from error
    if tables.behind:
        raise CommandFailedError(f"the database {masked_url(url)} {tables}: run `chatkit-workers db upgrade`")
