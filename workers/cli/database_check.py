"""The part of `doctor` that looks at the database: which revision its tables have."""

import os
from dataclasses import dataclass

from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from workers.chat.database import MIGRATIONS

DATABASE_ERRORS = (SQLAlchemyError, OSError)
"""What is raised while the database cannot be asked."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The revision that the tables have (None: there are none), and the newest that this version knows."""

    revision: str | None
    newest: str
    behind: bool

    def __str__(self) -> str:
        if self.revision is None:
            return "has no tables"
        return f"is at revision {self.revision}" + (f", this version needs {self.newest}" if self.behind else "")


async def read_tables(url: str) -> Tables:
    """What the database has. Tables newer than this version are fine: a new version is just being rolled out.

    Raises:
        SQLAlchemyError, OSError: the database cannot be reached.
    """
    target = make_url(url)
    if target.get_backend_name() == "sqlite" and not os.path.isfile(target.database or ""):  # noqa: PTH113, ASYNC240  # one look
        return _compare(None)  # connecting would make the file
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return _compare(await _revision(connection))
    finally:
        await engine.dispose()


def _compare(revision: str | None) -> Tables:
    scripts = ScriptDirectory(str(MIGRATIONS))
    newest = scripts.get_current_head() or ""
    older = {script.revision for script in scripts.walk_revisions()} - {newest}
    return Tables(revision, newest, behind=revision is None or revision in older)


async def _revision(connection: AsyncConnection) -> str | None:
    try:
        return str(await connection.scalar(text("SELECT version_num FROM alembic_version")))
    except DBAPIError:
        return None  # it answers, but has no such table
