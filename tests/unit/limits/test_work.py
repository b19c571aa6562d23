"""What a look of the granters costs, counted in commands."""

from typing import Any

import pytest

from tests.limit_builders import MODEL, stand_on
from workers.lanes.connection import connect

USERS = 20

pytestmark = pytest.mark.redis


async def commands_of_a_look(url: str, each: int, **limits: Any) -> tuple[int, int]:
    """Commands of a look at which nobody may go, and of one at which every user may send one more."""
    state: Any = connect(url)
    await state.flushdb()
    stand = stand_on(state, "work")
    await stand.limit(**limits)
    for number in range(each + 1):
        for user in range(USERS):
            await stand.ask(f"{user}-{number}", userid=f"u{user}", tenant=f"t{user}")

    async def count() -> int:
        stats = await state.info("commandstats")
        return int(sum(one["calls"] for name, one in stats.items() if not name.startswith("cmdstat_info")))

    await stand.granted()
    counts = []
    for seconds in (0, 10):
        stand.turn(seconds)
        before = await count()
        granted = await stand.granted()
        counts.append(await count() - before)
        assert len(granted) == (USERS if seconds else 0)
    await state.aclose()
    return counts[0], counts[1]


@pytest.mark.parametrize("who", ["users", "tenants"])
async def test_a_look_costs_by_how_many_may_go_and_not_by_how_many_wait(redis_url: str, who: str) -> None:
    limits = {who: {"*": {"rpm": 6}}, "models": {MODEL: {"rpm": 60_000}}}
    few = await commands_of_a_look(redis_url, 3, **limits)
    assert await commands_of_a_look(redis_url, 60, **limits) == few
