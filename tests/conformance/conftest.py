"""The same conversations on each database."""

from collections.abc import AsyncIterator

import pytest

from tests.conformance.conversation import Conversation
from workers.chat.database import Database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.upgrade()
    yield database
    await database.close()


@pytest.fixture
def talk(database: Database) -> Conversation:
    return Conversation(database, tenant="default")
