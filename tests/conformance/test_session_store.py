"""The session store, on a Redis that is real and on the one that `make demo` falls back to."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import fakeredis
import pytest

from tests.session_builders import ALSO_MINE, LIFETIMES, ME, OTHER_TENANT, Shop, listening, shop_on
from workers.lanes.connection import connect
from workers.sessions.ids import new_session_id, shared_part
from workers.sessions.records import Rotated
from workers.sessions.refresh_tokens import RefreshToken
from workers.sessions.store import REVOKED_KEPT, Lifetimes

JUST = timedelta(milliseconds=1)


@pytest.fixture(params=["fake", pytest.param("redis", marks=pytest.mark.redis)])
async def state(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if request.param == "fake":
        client: Any = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
    else:
        client = connect(request.getfixturevalue("redis_url"))
    yield client
    await client.aclose()


@pytest.fixture
def shop(state: Any) -> Shop:
    return shop_on(state, "ck")


def pieces(value: Any) -> list[bytes]:
    """Every byte string in it."""
    if isinstance(value, bytes):
        return [value]
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return [piece for part in parts for piece in pieces(part)]


async def test_a_refresh_token_is_spent_once_and_its_successor_goes_on(shop: Shop) -> None:
    token = await shop.started()
    for _ in range(5):
        successor = await shop.rotated(token)
        assert (successor.session_id, successor.family) == (token.session_id, token.family)
        assert successor.secret != token.secret
        token = successor


async def test_whom_a_session_belongs_to_is_said_at_each_refresh(shop: Shop) -> None:
    answer = await shop.store.rotate(await shop.started(OTHER_TENANT))
    assert isinstance(answer, Rotated)
    assert answer.owner == OTHER_TENANT
    assert answer.ends.timestamp() == pytest.approx(shop.clock.ms / 1000 + LIFETIMES.absolute.total_seconds())


async def test_the_identical_retry_within_the_grace_gets_the_same_successor(shop: Shop) -> None:
    token = await shop.started()
    successor = await shop.rotated(token)
    shop.clock.turn(LIFETIMES.grace - JUST)
    assert await shop.rotated(token) == successor
    assert await shop.rotated(successor) != successor


async def test_refreshes_at_once_get_one_successor_between_them(shop: Shop) -> None:
    token = await shop.started()
    answers = await asyncio.gather(*(shop.rotated(token) for _ in range(20)))
    assert len({answer.text for answer in answers}) == 1
    await shop.rotated(answers[0])


async def test_a_spent_token_after_the_grace_ends_its_session_for_the_thief_and_for_the_user(shop: Shop) -> None:
    stolen = await shop.started()
    current = await shop.rotated(stolen)
    shop.clock.turn(LIFETIMES.grace)
    assert await shop.store.rotate(stolen) == "reused"
    assert await shop.store.rotate(current) == "revoked"
    assert await shop.store.rotate(stolen) == "revoked"
    assert await shop.store.revoked([stolen.session_id]) == {stolen.session_id}
    assert await shop.ids() == set()


async def test_a_token_that_was_spent_longer_ago_ends_its_session_even_within_the_grace(shop: Shop) -> None:
    first = await shop.started()
    third = await shop.rotated(await shop.rotated(first))
    assert await shop.store.rotate(first) == "reused"
    assert await shop.store.rotate(third) == "revoked"


async def test_without_a_grace_the_second_of_two_refreshes_ends_the_session(state: Any) -> None:
    shop = shop_on(state, "ck", Lifetimes(LIFETIMES.absolute, LIFETIMES.idle, timedelta(0)))
    token = await shop.started()
    answers = await asyncio.gather(shop.store.rotate(token), shop.store.rotate(token))
    assert sorted(isinstance(answer, Rotated) for answer in answers) == [False, True]
    assert "reused" in answers


async def test_who_knows_only_the_session_id_changes_nothing(shop: Shop) -> None:
    token = await shop.started()
    assert await shop.store.rotate(RefreshToken.new(token.session_id)) == "invalid"
    await shop.rotated(token)


async def test_a_token_of_no_session_is_unknown(shop: Shop) -> None:
    assert await shop.store.rotate(RefreshToken.new(new_session_id(ME))) == "unknown"


async def test_a_session_ends_when_it_was_idle_too_long_and_refreshing_keeps_it_alive(shop: Shop) -> None:
    token = await shop.started()
    for _ in range(3):
        shop.clock.turn(LIFETIMES.idle - JUST)
        token = await shop.rotated(token)
    shop.clock.turn(LIFETIMES.idle)
    assert await shop.store.rotate(token) == "unknown"
    assert await shop.store.revoked([token.session_id]) == set(), "to expire is not to be revoked"


async def test_no_refreshing_carries_a_session_beyond_its_absolute_end(shop: Shop) -> None:
    token = await shop.started()
    for _ in range(6):
        shop.clock.turn(timedelta(days=5) - JUST)
        token = await shop.rotated(token)
    shop.clock.turn(6 * JUST)
    assert await shop.store.rotate(token) == "unknown"


async def test_redis_itself_forgets_what_nobody_uses(state: Any) -> None:
    brief = timedelta(milliseconds=40)
    shop = shop_on(state, "ck", Lifetimes(LIFETIMES.absolute, brief, brief))
    token = await shop.rotated(await shop.started())
    await asyncio.sleep(0.1)
    left = await shop.everything()
    assert [list(value) for value in left.values()] == [[token.session_id.encode()]], "only the index still names it"
    assert await shop.store.prune(dict.fromkeys(shop.store.shards, ""), 10) == dict.fromkeys(shop.store.shards, "")
    assert await shop.everything() == {}


async def test_tidying_up_leaves_what_lives(shop: Shop) -> None:
    tokens = [await shop.started() for _ in range(7)]
    gone = tokens[3].session_id
    await shop.state.delete(shop.keys.tag_of(shared_part(gone)) + gone)
    places = dict.fromkeys(shop.store.shards, "")
    for _ in range(5):
        places = await shop.store.prune(places, 2)
    assert await shop.ids() == {token.session_id for token in tokens} - {gone}
    index = [value for key, value in (await shop.everything()).items() if key.endswith(b"sessions")]
    assert gone.encode() not in index[0]


async def test_the_state_holds_nothing_that_a_token_could_be_made_of(shop: Shop) -> None:
    token = await shop.started()
    successor = await shop.rotated(token)
    kept = b" ".join(pieces(await shop.everything()))
    assert successor.digest in kept
    for one in (token, successor):
        encoded = [one.text.encode(), one.text[-64:].encode(), one.secret.hex().encode(), base64.b64encode(one.secret)]
        assert not [secret for secret in (one.secret, one.family, *encoded) if secret in kept]
    shop.clock.turn(LIFETIMES.grace)
    salt = [value[b"salt"] for key, value in (await shop.everything()).items() if b"spent:" in key]
    assert token.successor(salt[0]) == successor, "so the salt is what has to go"


async def test_the_salt_is_gone_after_the_grace(state: Any) -> None:
    brief = timedelta(milliseconds=30)
    shop = shop_on(state, "ck", Lifetimes(LIFETIMES.absolute, LIFETIMES.idle, brief))
    await shop.rotated(await shop.started())
    await asyncio.sleep(0.1)
    assert not any(b"spent:" in key for key in await shop.everything())


async def test_a_revoked_session_is_not_refreshed_renewed_or_made_again(shop: Shop) -> None:
    token = await shop.started()
    assert await shop.store.revoke([token.session_id]) == [True]
    assert await shop.store.rotate(token) == "revoked"
    assert await shop.store.renew(ME, token.session_id) == "revoked"
    assert await shop.store.start(ME, token) is None
    assert await shop.store.revoke([token.session_id]) == [False]


async def test_a_session_whose_record_was_lost_can_be_revoked_all_the_same(shop: Shop) -> None:
    session_id = new_session_id(ME)
    assert await shop.store.revoke([session_id]) == [False]
    assert await shop.store.revoked([session_id, new_session_id(ME), "no-id-of-ours"]) == {session_id}


async def test_many_are_revoked_at_once_each_with_its_own_answer(shop: Shop) -> None:
    tokens = [await shop.started(owner) for owner in (ME, ALSO_MINE, OTHER_TENANT)]
    unknown = new_session_id(ME)
    ids = [tokens[0].session_id, unknown, tokens[1].session_id, tokens[2].session_id]
    assert await shop.store.revoke(ids) == [True, False, True, True]


async def test_one_user_is_signed_out_everywhere_and_nobody_else(shop: Shop) -> None:
    mine = [await shop.started() for _ in range(3)]
    others = [await shop.started(owner) for owner in (ALSO_MINE, OTHER_TENANT)]
    assert await shop.revoke_all(ME.tenant, ME.user) == {token.session_id for token in mine}
    assert {await shop.store.rotate(token) for token in mine} == {"revoked"}
    for token in others:
        await shop.rotated(token)


async def test_one_tenant_or_everybody_is_signed_out(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.sessions.store.LOOKED_AT", 3)
    acme = {(await shop.started(owner)).session_id for owner in (ME, ALSO_MINE) for _ in range(4)}
    globex = {(await shop.started(OTHER_TENANT)).session_id for _ in range(8)}
    assert await shop.revoke_all("acme") == acme
    assert await shop.revoke_all() == globex
    assert await shop.store.revoked(acme | globex) == acme | globex


async def test_revoking_and_refreshing_at_once_leave_the_session_revoked(shop: Shop) -> None:
    for _ in range(10):
        token = await shop.started()
        answer, _ = await asyncio.gather(shop.store.rotate(token), shop.store.revoke([token.session_id]))
        successor = answer.successor if isinstance(answer, Rotated) else token
        assert await shop.store.rotate(successor) == "revoked"


async def test_sessions_are_listed_by_page_by_tenant_and_by_user(shop: Shop) -> None:
    owners = [ME, ME, ALSO_MINE, OTHER_TENANT, *(type(ME)("acme", f"v{n}") for n in range(9))]
    tokens = {(await shop.started(owner)).session_id: owner for owner in owners}
    assert {one.session_id: one.owner for one in await shop.sessions(limit=2)} == tokens
    assert len(await shop.sessions(limit=2)) == len(tokens), "each once"
    assert await shop.ids("acme") == {id_ for id_, owner in tokens.items() if owner.tenant == "acme"}
    assert await shop.ids("acme", "u1") == {id_ for id_, owner in tokens.items() if owner == ME}
    assert await shop.ids("nobody") == set()


async def test_a_listed_session_says_when_it_was_made_used_and_will_end(shop: Shop) -> None:
    token = await shop.started()
    made = shop.clock.ms / 1000
    shop.clock.turn(timedelta(hours=1))
    await shop.rotated(token)
    [record] = await shop.sessions()
    assert (record.session_id, record.owner) == (token.session_id, ME)
    assert record.made_at.timestamp() == pytest.approx(made)
    assert (record.seen_at - record.made_at, record.ends_at - record.made_at) == (
        timedelta(hours=1),
        LIFETIMES.absolute,
    )


async def test_a_service_that_vouches_again_keeps_a_session_alive_and_spends_no_token(shop: Shop) -> None:
    token = await shop.started()
    shop.clock.turn(LIFETIMES.idle - JUST)
    renewed = await shop.store.renew(ME, token.session_id)
    assert not isinstance(renewed, str)
    shop.clock.turn(LIFETIMES.idle - JUST)
    await shop.rotated(token)
    assert await shop.store.renew(ALSO_MINE, token.session_id) == "unknown"


async def test_a_start_that_is_run_once_more_leaves_one_session_with_the_later_token(shop: Shop) -> None:
    session_id = new_session_id(ME, "evt_1")
    assert session_id == new_session_id(ME, "evt_1")
    lost, kept = RefreshToken.new(session_id), RefreshToken.new(session_id)
    await shop.store.start(ME, lost)
    await shop.store.start(ME, kept)
    assert await shop.store.rotate(lost) == "invalid"
    await shop.rotated(kept)
    assert len(await shop.sessions()) == 1


async def test_revocations_are_announced_and_listed_for_those_who_missed_it(shop: Shop) -> None:
    token, stolen = await shop.started(), await shop.started()
    await shop.rotated(await shop.rotated(stolen))
    async with listening(shop) as messages:
        await shop.store.revoke([token.session_id])
        await shop.store.rotate(stolen)
        heard = [json.loads((await messages.get_message(timeout=2))["data"]) for _ in range(2)]
    assert heard == [[shop.clock.ms, [token.session_id]], [shop.clock.ms, [stolen.session_id]]]
    listed = await shop.store.revoked_since(dict.fromkeys(shop.store.shards, shop.clock.ms / 1000))
    found = {one.session_id: one.at for revoked in listed.values() for one in revoked}
    assert found == pytest.approx(dict.fromkeys((token.session_id, stolen.session_id), shop.clock.ms / 1000))
    later = await shop.store.revoked_since(dict.fromkeys(shop.store.shards, shop.clock.ms / 1000 + 1))
    assert not any(later.values())


async def test_a_revocation_is_forgotten_when_nothing_could_still_wait(shop: Shop) -> None:
    token = await shop.started()
    await shop.store.revoke([token.session_id])
    shop.clock.turn(REVOKED_KEPT - JUST)
    await shop.store.revoke([(await shop.started()).session_id])
    assert await shop.store.revoked([token.session_id]) == {token.session_id}
    shop.clock.turn(JUST)
    await shop.store.revoke([(await shop.started()).session_id])
    assert await shop.store.revoked([token.session_id]) == set()


async def test_scripts_that_the_server_forgot_are_loaded_again(shop: Shop) -> None:
    token = await shop.started()
    await shop.state.script_flush()
    await shop.rotated(token)
