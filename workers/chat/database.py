"""The conversation store's engine: SQLite or PostgreSQL, its transactions, its migrations, its failures."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from workers.errors import DatabaseError

MIGRATIONS = Path(__file__).parent / "migrations"
POOL_SIZE = 10
CONNECT_SECONDS = 5
BUSY_SECONDS = 15
STATEMENT_SECONDS = 30


class Database:
    """Transactions on the store. One per process; it connects when it is first used."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self._engine = _sqlite_engine(url) if self.is_sqlite else _postgres_engine(url)
        # SQLite takes one writer at a time: waiting here costs nothing, waiting in SQLite polls.
        self._one_writer = asyncio.Lock() if self.is_sqlite else None

    @property
    def insert(self) -> Any:
        """The dialect's `insert`, which knows `on_conflict_do_update`."""
        return sqlite.insert if self.is_sqlite else postgresql.insert

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes nothing. Raises DatabaseError."""
        with _mapped():
            async with self._engine.connect() as connection:
                await connection.execution_options(read_only=True)
                async with connection.begin():
                    yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes, committed at the end. Raises DatabaseError."""
        async with AsyncExitStack() as stack:
            if self._one_writer is not None:
                await stack.enter_async_context(self._one_writer)
            with _mapped():
                async with self._engine.begin() as connection:
                    yield connection

    async def ping(self) -> None:
        """Raise DatabaseError unless the store answers and its tables are there."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1 FROM turns WHERE 1 = 0"))

    async def upgrade(self) -> None:
        """Make the tables, or migrate them to this version's."""
        with _mapped():
            async with self._engine.connect() as connection:
                await connection.run_sync(_upgrade)
                await connection.commit()

    async def close(self) -> None:
        await self._engine.dispose()


class _mapped:  # noqa: N801  # used as a statement
    """Maps the drivers' errors to ours. Their text holds the statement's parameters, so it is left out."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OperationalError | InterfaceError | PoolTimeoutError | OSError | TimeoutError) or (
            isinstance(error, DBAPIError) and error.connection_invalidated
        ):
            name = type(error.orig if isinstance(error, DBAPIError) and error.orig else error).__name__
            raise DatabaseError("the conversation store cannot be used", kind=name) from None


def _sqlite_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=POOL_SIZE, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own idea of when to BEGIN is off
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={BUSY_SECONDS * 1000}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        # a deferred transaction that writes later can fail without any waiting; the lock is taken at once instead
        read_only = connection.get_execution_options().get("read_only")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _postgres_engine(url: str) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        connect_args={"timeout": CONNECT_SECONDS, "command_timeout": STATEMENT_SECONDS},
    )


def _upgrade(connection: Any) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
