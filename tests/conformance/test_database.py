"""The database itself: its migrations, and what is said when it cannot be used."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, make_url, text

from tests.builders import create_event, delivery_of, feedback_event
from tests.conformance.chats import Chat, texts
from workers.chat.database import Database
from workers.chat.tables import metadata, threads
from workers.errors import DatabaseError, PermanentError


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[Database]:
    database = Database(empty_url)
    yield database
    await database.close()


async def test_the_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert await database.read(differences) == []


async def test_migrating_again_changes_nothing(chat: Chat) -> None:
    event = await chat.thread("hello")
    await chat.database.upgrade()
    assert texts(await chat.items(event)) == ["hello", "answer"]


async def test_programs_that_start_together_migrate_once(empty_url: str) -> None:
    databases = [Database(empty_url) for _ in range(4)]
    await asyncio.gather(*(database.upgrade() for database in databases))
    for database in databases:
        await database.ping()
        await database.close()
    versions = Database(empty_url)
    found = await versions.read(lambda connection: connection.execute(text("SELECT * FROM alembic_version")).all())
    await versions.close()
    assert len(found) == 1


async def test_a_new_file_that_another_program_is_writing_to_is_waited_for(sqlite_url: str) -> None:
    other = sqlite3.connect(str(make_url(sqlite_url).database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # in this state SQLite refuses the switch to WAL at once, whatever its timeout
    database = Database(sqlite_url)
    upgrade = asyncio.create_task(database.upgrade())
    done, _ = await asyncio.wait([upgrade], timeout=0.2)
    assert not done
    other.close()
    await upgrade
    await database.ping()
    await database.close()


async def test_a_database_without_tables_cannot_be_used(empty: Database) -> None:
    with pytest.raises(DatabaseError):
        await empty.ping()
    with pytest.raises(DatabaseError):
        await Chat(empty).run(create_event("hello"))
    with pytest.raises(DatabaseError):
        await Chat(empty).light([delivery_of(feedback_event("thr_1"))])


@pytest.mark.parametrize(
    ("statement", "usable"),
    [
        ("UPDATE alembic_version SET version_num = '0001'", False),
        ("DELETE FROM alembic_version", False),
        ("UPDATE alembic_version SET version_num = '9999'", True),  # a newer version is being rolled out
    ],
)
async def test_tables_that_are_behind_this_version_cannot_be_used(
    empty: Database, statement: str, usable: bool
) -> None:
    await empty.upgrade()
    await empty.ping()
    await empty.write(lambda connection: connection.execute(text(statement)).close())
    if usable:
        await empty.ping()
    else:
        with pytest.raises(DatabaseError):
            await empty.ping()


async def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    def half(connection: Connection) -> None:
        row = {"tenant": "t", "id": "thr_1", "user_id": "u", "body": "{}", "epoch": 0}
        connection.execute(threads.insert(), row)
        raise KeyError("bug")

    with pytest.raises(KeyError):
        await database.write(half)
    assert await database.read(lambda connection: connection.execute(threads.select()).all()) == []


async def test_a_wrong_statement_is_a_bug_and_no_outage(database: Database) -> None:
    def twice(connection: Connection) -> None:
        row = {"tenant": "t", "id": "thr_1", "user_id": "u", "body": "my secret words", "epoch": 0}
        connection.execute(threads.insert(), [row, row])

    with pytest.raises(Exception, match=r"(?i)unique") as raised:
        await database.write(twice)
    assert not isinstance(raised.value, DatabaseError)
    assert "my secret words" not in str(raised.value)


async def test_transactions_of_many_turns_do_not_get_in_each_others_way(chat: Chat) -> None:
    events = [create_event(f"question {number}") for number in range(40)]
    deliveries = [chat.delivery(event) for event in events]
    await asyncio.gather(*(chat.handler()(delivery) for delivery in deliveries))
    assert [texts(await chat.items(event)) for event in events] == [
        [f"question {number}", "answer"] for number in range(40)
    ]


async def test_a_server_that_is_down_cannot_be_used(free_port: int) -> None:
    database = Database(f"postgresql+asyncpg://nobody@127.0.0.1:{free_port}/none")
    with pytest.raises(DatabaseError):
        await database.ping()
    with pytest.raises(DatabaseError):
        await Chat(database).run(create_event("hello"))
    await database.close()


@pytest.mark.postgres
async def test_a_server_that_refuses_us_cannot_be_used(postgres_url: str) -> None:
    for url in (f"{postgres_url}_not_there", postgres_url.replace("postgres@", "somebody_else@")):
        database = Database(url)
        with pytest.raises(DatabaseError) as raised:
            await database.ping()
        assert raised.value.kind.startswith("Invalid")
        await database.close()


@pytest.mark.postgres
async def test_a_connection_that_the_server_ends_is_an_outage_and_then_made_anew(postgres_url: str) -> None:
    database = Database(postgres_url)
    await database.upgrade()

    def end_ourselves(connection: Connection) -> None:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(DatabaseError):
        await database.write(end_ourselves)
    await database.ping()
    await database.close()


@pytest.mark.postgres
async def test_a_value_that_the_server_cannot_hold_is_the_events_fault(postgres_url: str) -> None:
    database = Database(postgres_url)
    with pytest.raises(PermanentError):
        await database.read(lambda connection: connection.execute(text("SELECT CAST(:t AS TEXT)"), {"t": "a\0b"}).all())
    await database.close()


async def test_a_file_that_is_no_database_cannot_be_used(sqlite_url: str) -> None:
    Path(sqlite_url.partition("///")[2]).write_text("not a database " * 100)
    database = Database(sqlite_url)
    with pytest.raises(DatabaseError):
        await database.ping()
    await database.close()


async def test_the_tables_can_be_taken_back(empty: Database) -> None:
    from alembic import command

    from workers.chat.database import migrations

    def back(connection: Connection) -> list[str]:
        command.downgrade(migrations(connection), "base")
        return inspect(connection).get_table_names()

    await empty.upgrade()
    assert await empty.write(back) == ["alembic_version"]
