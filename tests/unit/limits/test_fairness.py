"""Who is served when many wait."""

from collections import Counter
from typing import Any

import pytest

from tests.limit_builders import Stand


async def serve(stand: Stand, count: int) -> list[str]:
    """Let `count` events through, one a second, and say whose."""
    served: list[str] = []
    for _ in range(count):
        stand.turn(1)
        for name in await stand.granted(1):
            await stand.settle(await stand.reserved(name), tokens=10)
            served.append(name)
    return served


async def test_weights_share_what_there_is_while_all_wait(stand: Stand) -> None:
    await stand.limit(models={"*": {"rpm": 60}}, tenants={"a": {"weight": 3}})
    await stand.reserved("first")
    for number in range(90):
        await stand.waits(f"a{number}", tenant="a", tokens=10)
        await stand.waits(f"b{number}", tenant="b", tokens=10)
    shares = Counter(name[0] for name in await serve(stand, 80))
    assert shares["a"] / shares["b"] == pytest.approx(3, rel=0.1)


async def test_shares_are_counted_in_tokens(stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("first")
    for number in range(60):
        await stand.waits(f"a{number}", tenant="a", tokens=300)
        await stand.waits(f"b{number}", tenant="b", tokens=100)
    shares = Counter(name[0] for name in await serve(stand, 40))
    assert shares["b"] / shares["a"] == pytest.approx(3, rel=0.1)


async def test_interactive_events_go_before_background_ones_which_keep_a_tenth(stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("first")
    for number in range(60):
        await stand.waits(f"b{number}", priority="background", tokens=10)
    for number in range(60):
        await stand.waits(f"i{number}", tokens=10)
    served = await serve(stand, 50)
    assert Counter(name[0] for name in served) == {"i": 45, "b": 5}
    served += await serve(stand, 75)
    assert len(served) == 120  # and when nobody interactive waits, they get everything


async def test_a_tenant_that_floods_does_not_delay_another(stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("first")
    for number in range(500):
        await stand.waits(f"a{number}", tenant="a", tokens=10)
    places = [(await stand.waits(f"b{number}", tenant="b", tokens=10)).place for number in range(20)]
    assert places == [2 * number + 2 for number in range(20)]
    served = await serve(stand, 41)
    assert sum(name.startswith("b") for name in served) == 20


async def test_a_tenant_that_comes_back_gets_no_credit_for_having_been_away(stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("first")
    for number in range(60):
        await stand.waits(f"a{number}", tenant="a", tokens=10)
    await serve(stand, 30)
    for number in range(20):
        await stand.waits(f"b{number}", tenant="b", tokens=10)
    assert Counter(name[0] for name in await serve(stand, 20)) == {"a": 10, "b": 10}


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"tenants": {"b": {"rpm": 20}}},
        {"tenants": {"b": {"rpm": 20}, "a": {"weight": 3}}},
    ],
)
async def test_the_time_that_is_told_is_the_time_it_takes(stand: Stand, limits: dict[str, Any]) -> None:
    await stand.limit(models={"*": {"rpm": 60}}, **limits)
    await stand.reserved("first")
    for number in range(30):
        for tenant, user in ("au", "bv"):
            await stand.waits(f"{tenant}{number}", tenant=tenant, userid=user, tokens=10)
    ids = list(stand.names)
    places = zip(ids, await stand.limiter.places(ids), strict=True)
    told = {stand.names[id_]: waits.eta.total_seconds() for id_, waits in places if waits is not None}
    began, off = stand.clock.us, []
    for _ in range(150):
        stand.turn(1)
        for name in await stand.granted():
            real = (stand.clock.us - began) / 1e6
            off.append(abs(told[name] - real) / real)
            await stand.settle(await stand.reserved(name), tokens=10)
    assert len(off) == 60
    assert sorted(off)[int(len(off) * 0.9)] < 0.25
