"""What a turn would be without durability: no journal, no fence around frames and rows. For measuring alone."""

from collections.abc import Awaitable
from typing import Any

from workers.chat import fence
from workers.chat.turn import TurnHandler
from workers.lanes import lanes, scripts

APPEND = """
--@include frames.lua
local key = KEYS[1] .. 'event:' .. ARGV[1]
local frames = {}
for i = 9, #ARGV do
  frames[#frames + 1] = ARGV[i]
end
local number = write_frames(KEYS[1], ARGV[1], redis.call('HGET', key, 'acceptance'), tonumber(ARGV[5]), frames, nil)
redis.call('HSET', key, 'next', number)
return { 'appended', number, 0 }
"""


def take_durability_away() -> None:
    """In this process, for good."""
    source = scripts.INCLUDE.sub(lambda found: scripts._read(found[1], scripts.LANES), APPEND)
    plain, known = scripts.Script("append", source), scripts.script

    def script(name: str, package: str = scripts.LANES) -> scripts.Script:
        return plain if name == "append" else known(name, package)

    async def no_journal(*_: Any) -> None:
        return None

    lanes.script = script  # type: ignore[assignment,attr-defined]  # the name that it imports
    journal: Awaitable[Any] = no_journal  # type: ignore[assignment]  # a double
    TurnHandler._journal = journal  # type: ignore[method-assign,assignment]  # same
    fence.check_unanswered = fence.mark_answered = lambda *_: None  # type: ignore[assignment]  # same
