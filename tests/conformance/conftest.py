"""Every test here runs on each database that the conversation store supports."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.chats import Chat
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


@pytest.fixture
def database_url(empty_url: str, sqlite_template: Path, tmp_path: Path) -> str:
    """A database with tables."""
    if empty_url.startswith("sqlite"):
        shutil.copy(sqlite_template, tmp_path / "chatkit.db")
    else:
        asyncio.run(migrate(empty_url))
    return empty_url


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
