"""The Lua scripts: loaded once, called in one pipeline, loaded again when Redis has forgotten them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from workers.lanes.connection import State

LANES = "workers.lanes"
INCLUDE = re.compile(r"^--@include (\S+)\n", re.MULTILINE)

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its whole text, and the digest that Redis knows it by."""

    name: str
    source: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", sha1(self.source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script on one shard."""

    script: Script
    tag: str
    arguments: Sequence[Argument]


@cache
def script(name: str, package: str = LANES) -> Script:
    """Read a script of a package and put its includes in place: the package's own, or else those of the lanes."""
    return Script(name, INCLUDE.sub(lambda found: _read(found[1], package), _read(f"{name}.lua", package)))


def _read(file_name: str, package: str) -> str:
    own = files(package) / "scripts" / file_name
    return (own if own.is_file() else files(LANES) / "scripts" / file_name).read_text(encoding="utf-8")


class ScriptRunner:
    """Runs calls in one round trip. An error of Redis is raised once every call has run: calling again is safe."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def run(self, calls: Sequence[Call], *, in_order: bool = False) -> list[Any]:
        """Run the calls and give their replies.

        Args:
            calls: run one after another on each shard.
            in_order: no call may run before an earlier one of its shard, not even when Redis forgot the script and
                another client loads it between the two: the first call of each shard then carries the source.
        """
        if not calls:
            return []
        replies = await self._send(calls, in_order=in_order)
        missing = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:
            for text in {calls[index].script.source for index in missing}:
                await self._state.script_load(text)
            again = await self._send([calls[index] for index in missing])
            for index, reply in zip(missing, again, strict=True):
                replies[index] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _send(self, calls: Sequence[Call], *, in_order: bool = False) -> list[Any]:
        opened: set[str] = set()
        pipeline: Any = pipeline_of(self._state)
        for call in calls:
            if in_order and call.tag not in opened:
                opened.add(call.tag)
                pipeline.execute_command("EVAL", call.script.source, 1, call.tag, *call.arguments)
            else:
                pipeline.execute_command("EVALSHA", call.script.digest, 1, call.tag, *call.arguments)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


def pipeline_of(state: State) -> Any:
    """A pipeline without a transaction: each script is atomic, a batch needs not be."""
    return state.pipeline(transaction=False)


Clock = Callable[[], int]
"""Microseconds since 1970, for tests that turn the clock; otherwise the time is that of Redis."""
