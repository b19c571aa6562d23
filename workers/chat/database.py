"""The conversation store's engine: SQLite or PostgreSQL, its transactions, its migrations, its failures.

A transaction is a synchronous function on a connection. On SQLite it runs in a thread, with one hop for the whole of
it: a hop for each statement, as aiosqlite has it, costs more CPU than the statements. On PostgreSQL it runs on asyncpg.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine

from workers.chat.revision import MIGRATIONS, REVISION, Tables
from workers.errors import CallError, DatabaseError, PermanentError

POOL_SIZE = 10
CONNECT_SECONDS = 5
BUSY_SECONDS = 15
SWITCH_SECONDS = 0.01
STATEMENT_SECONDS = 30

WRONG_STATEMENTS = (DataError, IntegrityError, NotSupportedError, ProgrammingError)
WRONG_STATES = frozenset({"23", "42"})
"""PostgreSQL's classes of errors that our own statement has made: integrity, syntax and access."""
WRONG_DATA = "22"
"""Its class of values that it cannot take. They are the event's, so that is no bug and no outage."""
NO_TABLE = "42P01"
MIGRATION_LOCK = 0x63686174
"""Key of PostgreSQL's advisory lock: two programs that start together must not both make the tables."""

T = TypeVar("T")
Work = Callable[[Connection], T]
"""What a transaction does. It may run again from the start only if its caller runs it again."""


class Backend(Protocol):
    """Runs transactions on one kind of database."""

    async def run(self, work: Work[T], *, read_only: bool) -> T: ...

    async def close(self) -> None: ...


class Database:
    """Transactions on the store. One per process; it connects when it is first used."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self._backend: Backend = SqliteBackend(url) if self.is_sqlite else PostgresBackend(url)

    @property
    def insert(self) -> Any:
        """The dialect's `insert`, which knows `on_conflict_do_update`."""
        return sqlite.insert if self.is_sqlite else postgresql.insert

    async def read(self, work: Work[T]) -> T:
        """Run a transaction that writes nothing. Raises what `write` raises."""
        with _mapped():
            return await self._backend.run(work, read_only=True)

    async def write(self, work: Work[T]) -> T:
        """Run a transaction, and commit it unless `work` raises.

        If the caller is cancelled meanwhile, it may still be committed.

        Raises:
            DatabaseError: the database is away, full or has no tables.
            PermanentError: it cannot hold one of the values.
            Exception: what `work` raises.
        """
        with _mapped():
            return await self._backend.run(work, read_only=False)

    async def ping(self) -> None:
        """Raise DatabaseError unless the store answers and its tables are there, none of them older than this code."""
        tables = Tables.at(await self.read(_revision))
        if tables.behind:
            raise DatabaseError(f"the conversation store {tables}", kind="OldTables")

    async def upgrade(self) -> None:
        """Make the tables, or migrate them to this version's."""
        await self.write(_upgrade)

    async def close(self) -> None:
        await self._backend.close()


class SqliteBackend:
    """SQLite: one thread writes, since it takes one writer at a time; the others read beside it (WAL)."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(
            url.replace("sqlite+aiosqlite:", "sqlite:", 1),
            pool_size=POOL_SIZE,
            hide_parameters=True,  # they are what people wrote
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        )
        event.listen(self._engine, "connect", _configure_sqlite)
        event.listen(self._engine, "begin", _begin_sqlite)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._readers = ThreadPoolExecutor(POOL_SIZE - 1, thread_name_prefix="sqlite-reader")

    async def run(self, work: Work[T], *, read_only: bool) -> T:
        threads = self._readers if read_only else self._writer
        return await asyncio.get_running_loop().run_in_executor(threads, self._run, work, read_only)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._writer.shutdown)
        await loop.run_in_executor(None, self._readers.shutdown)
        self._engine.dispose()

    def _run(self, work: Work[T], read_only: bool) -> T:
        with self._engine.connect() as connection:
            connection.execution_options(read_only=read_only)
            with connection.begin():
                return work(connection)


class PostgresBackend:
    """PostgreSQL through asyncpg."""

    def __init__(self, url: str) -> None:
        self._engine = create_async_engine(
            url,
            hide_parameters=True,
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
            pool_timeout=CONNECT_SECONDS,
            pool_pre_ping=True,
            connect_args={"timeout": CONNECT_SECONDS, "command_timeout": STATEMENT_SECONDS},
        )

    async def run(self, work: Work[T], *, read_only: bool) -> T:
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        await self._engine.dispose()


@contextmanager
def _mapped() -> Iterator[None]:
    """Map the drivers' errors to ours. Their text holds the statement's parameters, so it is left out."""
    try:
        yield
    except DBAPIError as error:
        failure = _failure_of(error)
        if failure is None:
            raise
        raise failure from None
    except (PoolTimeoutError, OSError, TimeoutError) as error:
        raise _unusable(type(error).__name__) from None


def _failure_of(error: DBAPIError) -> CallError | None:
    """What the driver's error means to us; None: the statement is wrong, which is a bug."""
    kind = type(getattr(error.orig, "driver_exception", None) or error.orig).__name__
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # SQLite's errors have classes only
        return None if isinstance(error, WRONG_STATEMENTS) else _unusable(kind)
    if state[:2] == WRONG_DATA:
        return PermanentError("the conversation store cannot hold this", kind=kind)
    return None if state[:2] in WRONG_STATES and state != NO_TABLE else _unusable(kind)


def _unusable(kind: str) -> DatabaseError:
    return DatabaseError("the conversation store cannot be used", kind=kind)


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own idea of when to BEGIN is off
    cursor = connection.cursor()
    _switch_to_wal(cursor)
    for pragma in ("synchronous=NORMAL", f"busy_timeout={BUSY_SECONDS * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """Several connections that open a new file at once refuse each other here, without SQLite's own waiting."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(SWITCH_SECONDS)


def _begin_sqlite(connection: Connection) -> None:
    # a deferred transaction that writes later can fail without any waiting; the lock is taken at once instead
    read_only = connection.get_execution_options().get("read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _revision(connection: Connection) -> str | None:
    connection.execute(text("SELECT 1 FROM turns WHERE 1 = 0")).close()
    return connection.execute(REVISION).scalar()


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    command.upgrade(migrations(connection), "head")


def migrations(connection: Connection) -> Config:
    """Alembic's configuration, over a connection in a transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))  # ConfigParser's own sign
    config.attributes["connection"] = connection
    return config
