"""Every test here runs on each database that the conversation store supports."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests import services
from tests.conformance.chats import Chat
from tests.conftest import leave_out
from workers.chat.database import Database


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the tables in it: migrated once, then copied."""
    template = tmp_path_factory.mktemp("template") / "chatkit.db"
    asyncio.run(migrate(f"sqlite+aiosqlite:///{template}"))
    return template


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """A database without tables."""
    return sqlite_url if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def postgres_tables() -> Iterator[str]:
    """A PostgreSQL database with the tables in it: migrated once, then emptied (a copy takes ten times as long)."""
    if not services.postgres_reachable():
        leave_out("PostgreSQL")
    with services.postgres_database() as url:
        asyncio.run(migrate(url))
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, sqlite_template: Path, sqlite_url: str) -> str:
    """A database with tables, and nothing in them."""
    if request.param == "sqlite":
        shutil.copy(sqlite_template, str(make_url(sqlite_url).database))
        return sqlite_url
    url = str(request.getfixturevalue("postgres_tables"))
    services.empty_tables(url)
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def chat(database: Database) -> Chat:
    return Chat(database)


async def migrate(url: str) -> None:
    database = Database(url)
    await database.upgrade()
    await database.close()
