"""The part of `doctor` that looks at the database: which revision its tables have."""

import os

from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from workers.chat.database import MIGRATIONS
from workers.cli.command import CommandFailedError
from workers.cli.connections import cause


async def migration_state(url: str) -> tuple[str | None, str | None]:
    """The revision that the tables have (None: there are no tables) and the newest that this version knows.

    Raises:
        CommandFailedError: the database cannot be reached.
    """
    newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    target = make_url(url)
    if target.get_backend_name() == "sqlite" and not os.path.isfile(target.database or ""):  # noqa: PTH113, ASYNC240  # one look
        return None, newest  # connecting would make the file
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return await _revision(connection), newest
    except (SQLAlchemyError, OSError) as error:
        raise CommandFailedError(cause(error)) from error
    finally:
        await engine.dispose()


async def _revision(connection: AsyncConnection) -> str | None:
    try:
        return str(await connection.scalar(text("SELECT version_num FROM alembic_version")))
    except DBAPIError:
        return None  # it answers, but has no such table
