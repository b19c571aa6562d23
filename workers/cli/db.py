"""`db upgrade`: the tables of the conversation store."""

import asyncio

import click

from workers.cli.command import Command, CommandFailedError, CommandGroup, Output
from workers.settings import Settings, load_settings, masked_url


@click.group(cls=CommandGroup)
def command() -> None:
    """Make or migrate the tables."""


@command.command(cls=Command)
@click.pass_obj
def upgrade(output: Output) -> None:
    """Make the tables, or bring them up to date. Running it again changes nothing."""
    settings = load_settings()
    asyncio.run(_upgrade(settings))
    shown = masked_url(settings.database_url)
    output.record({"database": shown, "state": "up to date"}, f"{shown} is up to date")


async def _upgrade(settings: Settings) -> None:
    from workers.chat.database import Database
    from workers.errors import DatabaseError

    database = Database(settings.database_url)
    try:
        await database.upgrade()
    except DatabaseError as error:
        raise CommandFailedError(
            f"the database {masked_url(settings.database_url)} cannot be upgraded ({error}): "
            "start it, or set CHATKIT_DATABASE_URL"
        ) from error
    finally:
        await database.close()
