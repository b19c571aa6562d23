"""(i) Sessions: what each costs in Redis, and what checking, refreshing and revoking takes."""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import jwt
from pydantic import SecretStr

from tests.bench.sizes import Sizes
from tests.bench.stack import Stack, stack
from tests.bench.table import Line, Table, percentile
from workers.lanes.connection import State, connect
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.lanes.scripts import pipeline_of
from workers.sessions.ids import new_session_id
from workers.sessions.keys import KeyRing
from workers.sessions.records import Revoked
from workers.sessions.refresh_tokens import RefreshToken
from workers.sessions.revocations import MOST, Revocations
from workers.sessions.store import Lifetimes, SessionStore
from workers.sessions.tokens import AUDIENCE, CLAIMS, ISSUER, LEEWAY, TokenMinter, TokenVerifier
from workers.settings import Settings

LIFETIMES = Lifetimes(timedelta(days=30), timedelta(days=7), timedelta(seconds=5))
MOST_BYTES = 600
MOST_US = 100.0
CHECKS = 3_000
REFRESHES = 1_000
AT_ONCE = 100
TTL = timedelta(minutes=10)


def run(sizes: Sizes) -> list[Table]:
    with stack() as parts:
        kept = asyncio.run(_kept(parts, sizes.sessions))
    how = f"{sizes.sessions:,} sessions of as many users in 20 tenants, all of them refreshed once"
    return [
        Table("(i) client secrets", "in this process, no I/O; a full list of revocations", _checks()),
        Table("(i) sessions in Redis", how, kept),
    ]


def _checks() -> list[Line]:
    lines: list[Line] = []
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    rings = {
        "EdDSA": Settings(signing_keys=SecretStr(json.dumps({"k1": key}))),
        "HS256": Settings(secret_key=SecretStr("s" * 40)),
    }
    for name, settings in rings.items():
        ring = KeyRing.from_settings(settings)
        revocations = Revocations(TTL)
        revocations.add(Revoked(new_session_id(Owner("t", f"r{n}")), time.time()) for n in range(MOST))
        minter, verifier = TokenMinter(ring, TTL), TokenVerifier(ring, revocations)
        tokens = [minter.mint(f"u{number}", "acme").client_secret for number in range(CHECKS)]
        bare = _p50_us(tokens, lambda token, ring=ring: _bare(token, ring))  # type: ignore[misc]  # bound here
        first, again = _p50_us(tokens, verifier.verify), _p50_us(tokens, verifier.verify)
        lines.append(Line(f"{name}: bare jwt.decode, p50", f"{bare:.0f} us"))
        for what, value in (("a client secret seen for the first time", first), ("the same once more", again)):
            lines.append(Line(f"{name}: {what}, p50", f"{value:.1f} us", f"< {MOST_US:g} us", value < MOST_US))
    return lines


def _bare(token: str, ring: KeyRing) -> object:
    """The checks that PyJWT does, and none of ours."""
    key: Any = ring.signing.public
    options: Any = {"require": CLAIMS, "strict_aud": True}
    algorithms = [ring.signing.algorithm]
    return jwt.decode(
        token, key, algorithms=algorithms, audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY, options=options
    )


def _p50_us(tokens: Sequence[str], check: Callable[[str], object]) -> float:
    seconds = []
    for token in tokens:
        began = time.perf_counter()
        check(token)
        seconds.append(time.perf_counter() - began)
    return percentile(seconds, 0.5) * 1e6


async def _kept(parts: Stack, count: int) -> list[Line]:
    state = connect(parts.state_url)
    try:
        plain = await _grown(state, lambda: _plain(state, count))
        await state.flushdb()
        store = SessionStore(state, Keys("ck", 8), LIFETIMES)
        tokens: list[RefreshToken] = []
        each = await _grown(state, lambda: _started(state, store, count, tokens)) / count
        lines = [
            Line("memory each, a JSON text with an expiry and no index", f"{plain / count:.0f} B"),
            Line("memory each", f"{each:.0f} B", f"<= {MOST_BYTES} B", each <= MOST_BYTES),
        ]
        return lines + await _times(store, tokens)
    finally:
        await state.aclose()


async def _times(store: SessionStore, tokens: Sequence[RefreshToken]) -> list[Line]:
    few = tokens[:: max(1, len(tokens) // REFRESHES)][:REFRESHES]
    began = time.perf_counter()
    await _all(few, store.rotate)
    rate = len(few) / (time.perf_counter() - began)
    ids = [token.session_id for token in few]
    times = {
        "is it revoked? (asked before a turn runs), p50": await _p50_ms(ids, lambda id_: store.revoked([id_])),
        "revoke one, p50": await _p50_ms(ids[:200], lambda id_: store.revoke([id_])),
        "a page of 500 of all sessions": await _p50_ms([None] * 20, lambda _: store.page()),
        "all sessions of one user": await _p50_ms([None] * 20, lambda _: store.page("t1", "u1")),
    }
    began = time.perf_counter()
    revoked = sum([len(batch) async for batch in store.revoke_all()])
    everybody = time.perf_counter() - began
    return [
        Line(f"refreshes, {AT_ONCE} at once", f"{rate:,.0f}/s"),
        *(Line(what, f"{value:.2f} ms") for what, value in times.items()),
        Line(f"revoke all that are left, {revoked:,}", f"{everybody:.1f} s"),
    ]


async def _start(store: SessionStore, count: int, tokens: list[RefreshToken]) -> None:
    """Start sessions, and refresh each once."""
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(count, first + AT_ONCE))
        owners = [Owner(f"t{number % 20}", f"user-{number:08}") for number in numbers]
        fresh = [RefreshToken.new(new_session_id(owner)) for owner in owners]
        await asyncio.gather(*(store.start(owner, token) for owner, token in zip(owners, fresh, strict=True)))
        answers = await asyncio.gather(*(store.rotate(token) for token in fresh))
        tokens += [answer.successor for answer in answers if not isinstance(answer, str)]


async def _started(state: State, store: SessionStore, count: int, tokens: list[RefreshToken]) -> None:
    """The same, and Redis has forgotten the salts of the grace: of all these sessions, few are refreshed at once."""
    await _start(store, count, tokens)
    await asyncio.sleep(LIFETIMES.grace.total_seconds())
    async for _ in state.scan_iter(match="*spent:*", count=1000):  # looking at them is what makes Redis forget them now
        pass


async def _plain(state: State, count: int) -> None:
    """What the usual way costs: a JSON text for each session, under its id."""
    for first in range(0, count, AT_ONCE):
        pipeline = pipeline_of(state)
        for number in range(first, min(count, first + AT_ONCE)):
            fields = {"tenant": f"t{number % 20}", "user": f"user-{number:08}", "created": 1.8e12, "seen": 1.8e12}
            hashes = {"refresh": secrets.token_hex(32), "family": secrets.token_hex(32)}
            pipeline.set(f"session:{secrets.token_hex(16)}", json.dumps(fields | hashes), ex=604_800)
        await pipeline.execute()


async def _grown(state: State, do: Callable[[], Awaitable[None]]) -> int:
    """By how many bytes Redis grows."""
    before: Any = await state.info("memory")
    await do()
    after: Any = await state.info("memory")
    return int(after["used_memory"]) - int(before["used_memory"])


async def _all(tokens: Sequence[RefreshToken], call: Callable[[RefreshToken], Awaitable[object]]) -> None:
    for first in range(0, len(tokens), AT_ONCE):
        await asyncio.gather(*(call(token) for token in tokens[first : first + AT_ONCE]))


async def _p50_ms(items: Sequence[Any], call: Callable[[Any], Awaitable[object]]) -> float:
    seconds = []
    for item in items:
        began = time.perf_counter()
        await call(item)
        seconds.append(time.perf_counter() - began)
    return percentile(seconds, 0.5) * 1000
