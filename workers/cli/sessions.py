"""`sessions`: list, show or revoke the sessions of users."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from workers.cli.command import Command, CommandFailedError, CommandGroup, Output

if TYPE_CHECKING:
    from schemas.records import PageState
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
@click.argument("session_id", metavar="ID")
@click.option("--tenant", metavar="NAME", help="Of a session that is kept under a name of a service's own.")
@click.pass_obj
def show(output: Output, session_id: str, tenant: str | None) -> None:
    """One session: its times, and what its page said last (open thread, ready, the name of its last error)."""
    asyncio.run(_show_one(output, session_id, tenant))


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


async def _show_one(output: Output, session_id: str, tenant: str | None) -> None:
    from schemas.events import DEFAULT_TENANT

    async with _store() as store:
        session = await store.find(session_id)
    page = await _page_state(session.owner.tenant if session else tenant or DEFAULT_TENANT, session_id)
    if session is None and page is None:
        raise CommandFailedError(f"no session {session_id}; `chatkit-workers sessions list` shows those that live")
    known = _record(session) if session is not None else {}
    said = page.model_dump(mode="json") if page is not None else {}
    output.table((known | said).items())


async def _page_state(tenant: str, session_id: str) -> "PageState | None":
    from workers.chat.database import Database
    from workers.chat.page_states import PageStates
    from workers.errors import DatabaseError
    from workers.settings import load_settings

    database = Database(load_settings().database_url)
    try:
        return await PageStates(database).find(tenant, session_id)
    except DatabaseError as error:
        raise CommandFailedError(f"{error}: is CHATKIT_DATABASE_URL right, and did `db upgrade` run?") from None
    finally:
        await database.close()


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
    said = "  ".join(f"{time:%Y-%m-%d %H:%M:%S}" for time in (session.made_at, session.seen_at, session.ends_at))
    owner = session.owner
    output.record(_record(session), f"{session.session_id}  {said}  {owner.tenant:<12}  {owner.user}")


def _record(session: "SessionRecord") -> dict[str, str]:
    times = {"made_at": session.made_at, "seen_at": session.seen_at, "ends_at": session.ends_at}
    record = {"session_id": session.session_id, "tenant": session.owner.tenant, "user": session.owner.user}
    return record | {name: time.isoformat() for name, time in times.items()}
