"""The part of `doctor` that looks at the database: which revision its tables have."""

import os

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from workers.chat.revision import REVISION, Tables

DATABASE_ERRORS = (SQLAlchemyError, OSError)
"""What is raised while the database cannot be asked."""


async def read_tables(url: str) -> Tables:
    """What the database has.

    Raises:
        SQLAlchemyError, OSError: the database cannot be reached.
    """
    target = make_url(url)
    if target.get_backend_name() == "sqlite" and not os.path.isfile(target.database or ""):  # noqa: PTH113, ASYNC240  # one look
        return Tables.at(None)  # connecting would make the file
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return Tables.at(await _revision(connection))
    finally:
        await engine.dispose()


async def _revision(connection: AsyncConnection) -> str | None:
    try:
        revision: str | None = await connection.scalar(REVISION)
    except DBAPIError:
        return None  # it answers, but has no such table
    return revision
