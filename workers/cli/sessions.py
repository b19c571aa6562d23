"""`sessions`: list or revoke the sessions of users."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from workers.cli.command import Command, CommandFailedError, CommandGroup, Output

if TYPE_CHECKING:
    from workers.sessions.records import SessionRecord
    from workers.sessions.store import SessionStore

GONE = "has ended already; should a client secret of it be about, it is refused from now on"


@click.group(cls=CommandGroup)
def command() -> None:
    """Sessions of users: each is a client secret in use, and the refresh token that makes the next one."""


@command.command("list", cls=Command)
@click.option("--user", metavar="NAME", help="Of one user, of --tenant or of the tenant `default`.")
@click.option("--tenant", metavar="NAME", help="Of one tenant.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Sessions at most.")
@click.pass_obj
def list_(output: Output, user: str | None, tenant: str | None, limit: int) -> None:
    """The sessions that live, in the order of their ids: those of a user stand together."""
    if not asyncio.run(_list(output, _tenant(user, tenant), user, limit)):
        output.note("no sessions")


@command.command(cls=Command)
@click.argument("session_ids", metavar="[ID]...", nargs=-1)
@click.option("--user", metavar="NAME", help="Every session of a user, of --tenant or of the tenant `default`.")
@click.option("--tenant", metavar="NAME", help="Every session of a tenant.")
@click.option("--all", "all_", is_flag=True, help="Every session there is.")
@click.pass_obj
def revoke(output: Output, session_ids: tuple[str, ...], user: str | None, tenant: str | None, all_: bool) -> None:
    """Sign users out: nothing of these sessions is taken from now on, nor run if it waits in the queue.

    Users sign in again by the service that vouches for them; --all is for a key that has become known.
    """
    named = user is not None or tenant is not None
    if sum((bool(session_ids), named, all_)) != 1:
        raise click.UsageError("give ids, or --user and --tenant, or --all")
    if session_ids:
        asyncio.run(_revoke(output, session_ids))
    else:
        output.note(f"{asyncio.run(_revoke_all(output, _tenant(user, tenant), user))} revoked")


def _tenant(user: str | None, tenant: str | None) -> str | None:
    from schemas.events import DEFAULT_TENANT

    return DEFAULT_TENANT if user is not None and tenant is None else tenant


@asynccontextmanager
async def _store() -> AsyncIterator["SessionStore"]:
    from workers.cli.connections import open_lanes
    from workers.sessions.deployment import store_of
    from workers.settings import load_settings

    settings = load_settings()
    async with open_lanes(settings) as (_, state):  # which checks that the shards are counted as they were made
        yield store_of(settings, state)


async def _list(output: Output, tenant: str | None, user: str | None, limit: int) -> int:
    count, after = 0, None
    async with _store() as store:
        while count < limit:
            page = await store.page(tenant, user, after=after)
            for record in page.items[: limit - count]:
                count += 1
                _show(output, record)
            after = page.next
            if after is None:
                break
    return count


async def _revoke(output: Output, session_ids: tuple[str, ...]) -> None:
    from workers.sessions.ids import is_session_id

    wrong = [session_id for session_id in session_ids if not is_session_id(session_id)]
    if wrong:
        raise CommandFailedError(f"{wrong[0]} is no session id; `chatkit-workers sessions list` shows them")
    async with _store() as store:
        lived = await store.revoke(session_ids)
    for session_id, one in zip(session_ids, lived, strict=True):
        record = {"session_id": session_id, "result": "revoked" if one else "gone"}
        output.record(record, f"{session_id} {'revoked' if one else GONE}")


async def _revoke_all(output: Output, tenant: str | None, user: str | None) -> int:
    count = 0
    async with _store() as store:
        async for session_ids in store.revoke_all(tenant, user):
            for session_id in session_ids:
                count += 1
                output.record({"session_id": session_id, "result": "revoked"}, f"{session_id} revoked")
    return count


def _show(output: Output, session: "SessionRecord") -> None:
    owner = session.owner
    times = {"made_at": session.made_at, "seen_at": session.seen_at, "ends_at": session.ends_at}
    record = {"session_id": session.session_id, "tenant": owner.tenant, "user": owner.user}
    said = "  ".join(f"{time:%Y-%m-%d %H:%M:%S}" for time in times.values())
    output.record(
        record | {name: time.isoformat() for name, time in times.items()},
        f"{session.session_id}  {said}  {owner.tenant:<12}  {owner.user}",
    )
