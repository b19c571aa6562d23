"""Sessions in Redis. Each change is one Lua script; all of a user's sessions are in one shard, so on one node of a
cluster.

Refresh tokens are kept as SHA-256 only. A session that is not used ends by itself, by the expiry of its key.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.lanes.scripts import Argument, Call, Clock, ScriptRunner, pipeline_of, script
from workers.lanes.views import moment
from workers.sessions.ids import is_session_id, owner_part, shared_part, tenant_part
from workers.sessions.records import NotLiving, NotRotated, Revoked, Rotated, SessionPage, SessionRecord
from workers.sessions.refresh_tokens import RefreshToken, new_salt

PACKAGE = "workers.sessions"

REVOKED_KEPT = timedelta(days=2)
"""How long a revocation is remembered: longer than any turn waits (its deadline is an hour, unless set otherwise)."""

LOOKED_AT = 500
"""Ids that one call of a script looks at, at most: Redis does nothing else meanwhile."""

BIGGEST = "~"
"""Behind every character of an id."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a session lives at most, how long without being refreshed, and how long a spent token is forgiven."""

    absolute: timedelta
    idle: timedelta
    grace: timedelta


class SessionStore:
    """All sessions of a deployment."""

    def __init__(self, state: State, keys: Keys, lifetimes: Lifetimes, *, clock: Clock | None = None) -> None:
        """`clock` is for tests; without one the time is that of Redis."""
        self._state, self._keys, self._lifetimes, self._clock = state, keys, lifetimes, clock
        self._scripts = ScriptRunner(state)
        self._idle_ms = _ms(lifetimes.idle)
        self.channel = keys.revocations_channel()
        """Where each revocation is announced, as JSON: `[when in ms, [session id, …]]`."""

    async def start(self, owner: Owner, token: RefreshToken) -> datetime | None:
        """Make the session that a first refresh token belongs to. Gives its end; None: it has been revoked already."""
        who: list[Argument] = [owner.tenant, owner.user, token.family_digest, token.digest]
        reply = await self._run("start", token.session_id, [*who, _ms(self._lifetimes.absolute), self._idle_ms])
        return moment(reply[1]) if reply[0] == b"started" else None

    async def rotate(self, token: RefreshToken) -> Rotated | NotRotated:
        """Spend a refresh token for its successor."""
        salt = new_salt()
        successor = token.successor(salt)
        digests: list[Argument] = [token.family_digest, token.digest, successor.digest, salt]
        times: list[Argument] = [self._idle_ms, _ms(self._lifetimes.grace), self.channel, _ms(REVOKED_KEPT)]
        match await self._run("rotate", token.session_id, [*digests, *times]):
            case [b"rotated" | b"again", kept_salt, tenant, user, ends]:
                return Rotated(token.successor(kept_salt), Owner(tenant.decode(), user.decode()), moment(ends))
            case [reason]:
                refused: NotRotated = reason.decode()
                return refused
            case reply:
                raise ValueError(f"rotate answered {len(reply)} values")

    async def renew(self, owner: Owner, session_id: str) -> datetime | NotLiving:
        """Count a session of the user's as used. Gives its end."""
        reply = await self._run("renew", session_id, [owner.tenant, owner.user, self._idle_ms])
        if reply[0] == b"renewed":
            return moment(reply[1])
        refused: NotLiving = reply[0].decode()
        return refused

    async def revoke(self, session_ids: Sequence[str]) -> list[bool]:
        """End sessions, given by ids of ours. For each: whether it lived."""
        by_tag: dict[str, list[str]] = {}
        for session_id in session_ids:
            by_tag.setdefault(self._tag_of(session_id), []).append(session_id)
        fixed: list[Argument] = [self._now(), self.channel, _ms(REVOKED_KEPT)]
        calls = [Call(script("revoke", PACKAGE), tag, [*fixed, *ids]) for tag, ids in by_tag.items()]
        answers = zip(by_tag.values(), await self._scripts.run(calls), strict=True)
        lived = {session_id: one == 1 for ids, reply in answers for session_id, one in zip(ids, reply, strict=True)}
        return [lived[session_id] for session_id in session_ids]

    async def revoke_all(self, tenant: str | None = None, user: str | None = None) -> AsyncIterator[list[str]]:
        """End every session, or those of a tenant, or of a user (of a tenant, which then must be given).

        Yields ids as they are revoked. A user's are revoked in one step, unless there are some hundred.
        """
        least, greatest = _range_of(tenant, user)
        fixed: list[Argument] = [self._now(), self.channel, _ms(REVOKED_KEPT)]
        for shard in self._shards_of(tenant, user):
            begin: str | None = least
            while begin is not None:
                arguments = [*fixed, begin, greatest, tenant or "", LOOKED_AT]
                call = Call(script("revoke_range", PACKAGE), self._keys.tag(shard), arguments)
                [[cursor, *ids]] = await self._scripts.run([call])
                if ids:
                    yield [session_id.decode() for session_id in ids]
                begin = f"({cursor.decode()}" if cursor else None

    async def page(
        self, tenant: str | None = None, user: str | None = None, *, after: str | None = None, limit: int = LOOKED_AT
    ) -> SessionPage:
        """Sessions that live, of everybody, of a tenant, or of a user of a tenant.

        Args:
            tenant: whose.
            user: of the tenant.
            after: `next` of the page before.
            limit: of the ids that are looked at, at most 500: a page may hold fewer, or none, and not be the last.

        Raises:
            ValueError: `after` is no `next` of such a page.
        """
        shards = self._shards_of(tenant, user)
        least, greatest = _range_of(tenant, user)
        place = 0
        if after is not None:
            shard, _, last = after.partition(".")
            place, least = shards.index(int(shard)), f"({last}" if last else least
        arguments: list[Argument] = [self._now(), self._idle_ms, least, greatest, min(limit, LOOKED_AT)]
        call = Call(script("list", PACKAGE), self._keys.tag(shards[place]), arguments)
        [[cursor, *found]] = await self._scripts.run([call])
        records = [_record_of(fields) for fields in found]
        follows = f"{shards[place]}.{cursor.decode()}" if cursor else None
        if follows is None and place + 1 < len(shards):
            follows = f"{shards[place + 1]}."
        return SessionPage([one for one in records if tenant in (None, one.owner.tenant)], follows)

    async def find(self, session_id: str) -> SessionRecord | None:
        """A session that lives, by its id."""
        if not is_session_id(session_id):
            return None
        only = f"[{session_id}"
        arguments: list[Argument] = [self._now(), self._idle_ms, only, only, 1]
        [[_, *found]] = await self._scripts.run([Call(script("list", PACKAGE), self._tag_of(session_id), arguments)])
        return _record_of(found[0]) if found else None

    async def revoked(self, session_ids: Collection[str]) -> set[str]:
        """Which of these sessions are revoked. What is no id of ours is not."""
        asked = [session_id for session_id in session_ids if is_session_id(session_id)]
        if not asked:
            return set()
        pipeline = pipeline_of(self._state)
        for session_id in asked:
            pipeline.zscore(f"{self._tag_of(session_id)}revoked", session_id)
        scores = await pipeline.execute()
        return {session_id for session_id, score in zip(asked, scores, strict=True) if score is not None}

    async def revoked_since(self, since: Mapping[int, float]) -> dict[int, list[Revoked]]:
        """Shard -> its revocations since a moment (seconds of Redis' clock), that one included, oldest first."""
        pipeline = pipeline_of(self._state)
        for shard, at in since.items():
            key = f"{self._keys.tag(shard)}revoked"
            pipeline.zrangebyscore(key, int(at * 1000), "+inf", withscores=True)
        replies = await pipeline.execute()
        return {
            shard: [Revoked(session_id.decode(), score / 1000) for session_id, score in reply]
            for shard, reply in zip(since, replies, strict=True)
        }

    async def prune(self, after: Mapping[int, str], limit: int) -> dict[int, str]:
        """Take the ids of sessions that came to their end by themselves out of the index, a part of each shard at a
        time.

        Args:
            after: shard -> id to go on after, empty for the beginning; as the last call answered.
            limit: ids to look at in each shard.
        """
        calls = [Call(script("prune", PACKAGE), self._keys.tag(shard), [id_, limit]) for shard, id_ in after.items()]
        replies = await self._scripts.run(calls)
        return {shard: reply.decode() for shard, reply in zip(after, replies, strict=True)}

    @property
    def shards(self) -> range:
        """The numbers of the shards."""
        return range(self._keys.shards)

    def _shards_of(self, tenant: str | None, user: str | None) -> list[int]:
        """Where sessions of these may be."""
        if tenant is not None and user is not None:
            return [self._keys.shard_of(owner_part(Owner(tenant, user)))]
        return list(self.shards)

    def _tag_of(self, session_id: str) -> str:
        return self._keys.tag_of(shared_part(session_id))

    async def _run(self, name: str, session_id: str, arguments: Sequence[Argument]) -> Any:
        call = Call(script(name, PACKAGE), self._tag_of(session_id), [self._now(), session_id, *arguments])
        [reply] = await self._scripts.run([call])
        return reply

    def _now(self) -> Argument:
        return "" if self._clock is None else self._clock()


def _range_of(tenant: str | None, user: str | None) -> tuple[str, str]:
    """The ids that these may have, as ZRANGEBYLEX takes them."""
    if tenant is None:
        return "-", "+"
    start = tenant_part(tenant) if user is None else owner_part(Owner(tenant, user))
    return f"[{start}", f"[{start}{BIGGEST}"


def _record_of(fields: Sequence[Any]) -> SessionRecord:
    session_id, tenant, user, made, seen, ends = fields
    owner = Owner(tenant.decode(), user.decode())
    return SessionRecord(session_id.decode(), owner, moment(made), moment(seen), moment(ends))


def _ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
