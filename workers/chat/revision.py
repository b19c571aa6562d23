"""Which revision the tables of the conversation store have, and whether this version can use them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import text

MIGRATIONS = Path(__file__).parent / "migrations"

REVISION = text("SELECT version_num FROM alembic_version")
"""Asks the database for what `Tables.at` takes."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The revision that the tables have (None: there are none), and the newest that this version knows.

    Tables newer than this version are fine: a new version is just being rolled out.
    """

    revision: str | None
    newest: str
    behind: bool

    @classmethod
    def at(cls, revision: str | None) -> "Tables":
        newest, older = _known()
        return cls(revision, newest, behind=revision is None or revision in older)

    def __str__(self) -> str:
        if self.revision is None:
            return "has no tables"
        return f"is at revision {self.revision}" + (f", this version needs {self.newest}" if self.behind else "")


@cache
def _known() -> tuple[str, frozenset[str]]:
    """The newest revision, and all that are older. (Reading the migrations takes tens of milliseconds.)"""
    scripts = ScriptDirectory(str(MIGRATIONS))
    newest = scripts.get_current_head() or ""
    return newest, frozenset(script.revision for script in scripts.walk_revisions()) - {newest}
