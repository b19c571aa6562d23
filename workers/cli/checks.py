"""The checks of `doctor`."""

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from redis.asyncio import Redis

from workers.cli.backend_check import check_backends
from workers.cli.broker_check import check_rabbitmq
from workers.cli.connections import cause
from workers.errors import SettingsError
from workers.lanes.connection import STATE_ERRORS, State, connect
from workers.lanes.deployment import keys_of
from workers.lanes.keys import Keys
from workers.lanes.roll import GONE_AFTER, Roll
from workers.lanes.views import LaneViews
from workers.settings import Settings, load_settings, masked_url, unknown_variables, variable_of
from workers.transport import is_plain_abroad

Level = Literal["ok", "warn", "fail"]
SKEW_WARN_SECONDS = 1.0
SKEW_FAIL_SECONDS = 30.0
"""Client secrets are good for 30 s more or less than they say; a clock further off makes them useless."""

OLDEST_REDIS = (7, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it."""

    check: str
    level: Level
    said: str
    remedy: str | None = None

    def as_text(self) -> str:
        return f"{self.level:<5} {self.check:<13} {self.said}" + (f"\n{'':<20}-> {self.remedy}" if self.remedy else "")

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


async def check_everything() -> list[Finding]:
    """All checks, in the order in which things have to work. Without right settings only they are told."""
    try:
        settings = load_settings()
    except SettingsError as error:
        return [Finding("settings", "fail", line, "correct the variable") for line in str(error).splitlines()]
    findings = [Finding("settings", "warn", line) for line in unknown_variables(os.environ)]
    findings.append(Finding("settings", "ok", "every variable is right"))
    findings.append(_routes(settings))
    for check in (_state, _broker, _database, _backends):
        findings += await check(settings)
    return [*findings, *_in_the_clear(settings), *_keys(settings), _model(settings)]


async def _state(settings: Settings) -> list[Finding]:
    return await _redis("state", settings.state_url, "CHATKIT_STATE_URL", _state_details(settings))


async def _broker(settings: Settings) -> list[Finding]:
    url = settings.broker_url
    if url.startswith("amqp"):
        return [Finding("broker", *found) for found in await check_rabbitmq(url)]
    if url == settings.state_url:
        return [Finding("broker", "ok", "the same Redis")]
    return await _redis("broker", url, "CHATKIT_BROKER_URL", _redis_details)


async def _backends(settings: Settings) -> list[Finding]:
    return [Finding("backends", *found) for found in await check_backends(settings)]


Details = Callable[[State, str], Awaitable[list[Finding]]]


async def _redis(check: str, url: str, variable: str, details: Details) -> list[Finding]:
    client = connect(url, max_connections=2)
    try:
        await client.ping()
        return [Finding(check, "ok", f"{masked_url(url)} answers"), *await details(client, check)]
    except STATE_ERRORS as error:
        return [
            Finding(
                check, "fail", f"{masked_url(url)} cannot be reached: {cause(error)}", f"start it, or set {variable}"
            )
        ]
    finally:
        await client.aclose()


def _state_details(settings: Settings) -> Details:
    async def details(client: State, check: str) -> list[Finding]:
        found = await _redis_details(client, check)
        seconds, microseconds = await client.time()
        found.append(_clock(time.time() - (int(seconds) + int(microseconds) / 1e6)))
        made_with = await client.get(Keys(settings.prefix, settings.shards).shard_count)
        if made_with is not None and int(made_with) != settings.shards:
            said = f"CHATKIT_SHARDS is {settings.shards}, but this deployment was made with {int(made_with)}"
            found.append(Finding("shards", "fail", said, f"set CHATKIT_SHARDS={int(made_with)}"))
            return found
        return [*found, await _workers(settings, client)]

    return details


async def _workers(settings: Settings, client: State) -> Finding:
    """Who has signed the roll within the last seconds: a worker whose loop stands still does not."""
    keys = keys_of(settings)
    names = await Roll(client, keys).names()
    depth = await LaneViews(client, keys).depth()
    waiting = sum(count for state, count in depth.states.items() if not state.ended)
    if names:
        said = f"{len(names)} on the roll: {', '.join(names)}; {waiting} events not ended"
        return Finding("workers", "ok", f"{said}, the oldest {depth.oldest_age_seconds:.0f} s old" if waiting else said)
    said = f"none has signed the roll within {GONE_AFTER.total_seconds():.0f} s; {waiting} events not ended"
    return Finding("workers", "fail" if waiting else "warn", said, "start one: chatkit-workers worker")


async def _redis_details(client: State, check: str) -> list[Finding]:
    """Version, memory policy and persistence, as far as this server tells (hosted ones and the fake may not)."""
    try:
        server: Any = await client.info("server") if isinstance(client, Redis) else {}
        policy: Any = await client.config_get("maxmemory-policy")
        saving: Any = {**await client.config_get("appendonly"), **await client.config_get("save")}
    except STATE_ERRORS as error:
        said = f"this server does not tell its settings ({type(error).__name__})"
        return [Finding(check, "warn", said, "make sure that maxmemory-policy is noeviction and appendonly is yes")]
    return [*_version(check, server), _eviction(check, policy), _persistence(check, saving)]


def _version(check: str, server: dict[str, Any]) -> list[Finding]:
    version = str(server.get("redis_version", ""))
    if not version:
        return []
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers < OLDEST_REDIS:
        return [Finding(check, "warn", f"Redis {version} was never tested", "use Redis 7.0 or newer")]
    return [Finding(check, "ok", f"Redis {version}")]


def _eviction(check: str, policy: dict[str, str]) -> Finding:
    value = policy.get("maxmemory-policy", "unknown")
    if value == "noeviction":
        return Finding(check, "ok", "maxmemory-policy noeviction")
    remedy = "CONFIG SET maxmemory-policy noeviction, and put it into redis.conf"
    return Finding(check, "fail", f"maxmemory-policy is {value}: a full Redis would throw events away", remedy)


def _persistence(check: str, saving: dict[str, str]) -> Finding:
    if saving.get("appendonly") == "yes":
        return Finding(check, "ok", "append-only file is on")
    lost = "the last minutes of" if saving.get("save") else "all"
    said = f"no append-only file: a restart loses {lost} acknowledged events"
    return Finding(check, "warn", said, "CONFIG SET appendonly yes, and put it into redis.conf")


def _clock(skew_seconds: float) -> Finding:
    said = f"{abs(skew_seconds) * 1000:.0f} ms {'ahead of' if skew_seconds > 0 else 'behind'} Redis"
    if abs(skew_seconds) < SKEW_WARN_SECONDS:
        return Finding("clock", "ok", said)
    level: Level = "warn" if abs(skew_seconds) < SKEW_FAIL_SECONDS else "fail"
    return Finding("clock", level, said, "synchronise the clocks (NTP): tokens and deadlines depend on them")


async def _database(settings: Settings) -> list[Finding]:
    from workers.cli.database_check import DATABASE_ERRORS, read_tables

    url = masked_url(settings.database_url)
    try:
        tables = await read_tables(settings.database_url)
    except DATABASE_ERRORS as error:
        said = f"{url} cannot be reached: {cause(error)}"
        return [Finding("database", "fail", said, "start it, or set CHATKIT_DATABASE_URL")]
    if tables.behind:
        return [Finding("database", "fail", f"{url} {tables}", "chatkit-workers db upgrade")]
    return [Finding("database", "ok", f"{url} {tables}")]


def _in_the_clear(settings: Settings) -> list[Finding]:
    """Connections over a network that anybody on the way can read."""
    better = {"broker_url": "rediss:// or amqps://", "state_url": "rediss://", "database_url": "?ssl=require"}
    plain = [name for name in better if is_plain_abroad(getattr(settings, name))]
    remedy = "{}: use {}, unless the network itself is encrypted"
    return [
        Finding(
            "transport",
            "warn",
            f"{masked_url(getattr(settings, name))} is not encrypted",
            remedy.format(variable_of(name), better[name]),
        )
        for name in plain
    ]


def _keys(settings: Settings) -> Sequence[Finding]:
    from workers.sessions.keys import KeyRing

    findings = []
    try:
        ring = KeyRing.from_settings(settings)
        findings.append(Finding("signing key", "ok", f"client secrets are signed with {ring.signing.algorithm}"))
    except SettingsError as error:
        remedy = "export CHATKIT_SIGNING_KEYS='{\"k1\": \"'$(openssl rand -base64 32)'\"}'"
        findings.append(Finding("signing key", "fail", str(error), remedy))
    if settings.service_keys:
        findings.append(Finding("API keys", "ok", f"{len(settings.service_keys)} service key(s)"))
    else:
        said = "CHATKIT_API_KEYS is not set: nobody can make sessions or post events over HTTP"
        findings.append(Finding("API keys", "warn", said, "set it to the output of: openssl rand -hex 32"))
    return findings


def _routes(settings: Settings) -> Finding:
    """Plug-ins and routes: whether they can be loaded, and which queues have to be consumed."""
    from workers.plugins import router_of

    try:
        router = router_of(settings)
    except SettingsError as error:
        return Finding("routes", "fail", str(error), "correct the variable, or the plug-in")
    said = f"{len(settings.routes.rules)} rules; some worker has to consume each of {', '.join(router.wakers)}"
    return Finding("routes", "ok", said)


def _model(settings: Settings) -> Finding:
    if settings.scripted:
        said = "neither OPENAI_API_KEY nor OPENAI_BASE_URL is set: the scripted model answers"
        return Finding("model", "warn", said, "set OPENAI_API_KEY for real answers")
    where = masked_url(settings.openai_base_url) if settings.openai_base_url else "OpenAI"
    return Finding("model", "ok", f"{settings.model} at {where}")
