"""`db upgrade`: the tables of the conversation store."""

import asyncio

import click

from workers.cli.command import Command, CommandFailedError, CommandGroup, Output


@click.group(cls=CommandGroup)
def command() -> None:
    """Make or migrate the tables."""


@command.command(cls=Command)
@click.pass_obj
def upgrade(output: Output) -> None:
    """Make the tables, or bring them up to date. Running it again changes nothing."""
    from workers.settings import load_settings, masked_url

    url = load_settings().database_url
    asyncio.run(_upgrade(url))
    shown = masked_url(url)
    output.record({"database": shown, "state": "up to date"}, f"{shown} is up to date")


async def _upgrade(url: str) -> None:
    from workers.chat.database import Database
    from workers.cli.connections import cause
    from workers.errors import DatabaseError
    from workers.settings import masked_url

    database = Database(url)
    try:
        await database.upgrade()
    except DatabaseError as error:
        why = cause(error.__context__ or error)  # the driver's own words: here they hold nothing that people wrote
        raise CommandFailedError(
            f"the database {masked_url(url)} cannot be upgraded ({why}): start it, or set CHATKIT_DATABASE_URL"
        ) from error
    finally:
        await database.close()
