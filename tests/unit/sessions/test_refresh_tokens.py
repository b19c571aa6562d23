"""Refresh tokens and session ids: what can be read of them, and what cannot."""

import pytest

from tests.session_builders import ALSO_MINE, ME, OTHER_TENANT
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.sessions.ids import belongs_to, is_session_id, new_session_id, owner_part, shared_part, tenant_part
from workers.sessions.refresh_tokens import RefreshToken, new_salt
from workers.sessions.tokens import TokenCode, TokenError


def test_a_token_is_read_as_it_was_given() -> None:
    for _ in range(200):  # base64 of chance: every character comes up
        token = RefreshToken.new(new_session_id(ME))
        assert RefreshToken.parse(token.text) == token


def test_a_successor_is_the_same_for_the_same_salt_and_another_for_another() -> None:
    token, salt = RefreshToken.new(new_session_id(ME)), new_salt()
    assert token.successor(salt) == token.successor(salt)
    assert len({token.secret, token.successor(salt).secret, token.successor(new_salt()).secret}) == 3
    assert RefreshToken.new(token.session_id).successor(salt).secret != token.successor(salt).secret


def test_the_secrets_are_in_no_representation() -> None:
    token = RefreshToken.new(new_session_id(ME))
    assert token.text not in repr(token)
    assert repr(token.secret) not in repr(token)
    assert token.session_id in repr(token)


@pytest.mark.parametrize(
    "text",
    ["", "crt_", "x" * 256, "crt_" + "a" * 36 + "_" + "A" * 63, "crt_" + "A" * 36 + "_" + "A" * 64, "\x00", "é" * 105],
)
def test_what_is_no_token_is_invalid(text: str) -> None:
    with pytest.raises(TokenError) as caught:
        RefreshToken.parse(text)
    assert caught.value.code is TokenCode.INVALID


def test_whose_a_session_is_can_be_told_from_its_id() -> None:
    mine = new_session_id(ME)
    assert is_session_id(mine)
    assert belongs_to(mine, ME)
    assert not any(belongs_to(mine, other) for other in (ALSO_MINE, OTHER_TENANT, Owner("acme", "u11")))
    assert mine.startswith(owner_part(ME))
    assert owner_part(ME).startswith(tenant_part("acme"))
    assert not belongs_to("ses_1", ME)


def test_ids_of_one_user_are_many_and_live_in_one_shard() -> None:
    ids = {new_session_id(ME) for _ in range(500)}
    assert len(ids) == 500
    keys = Keys("ck", 64)
    assert len({keys.tag_of(shared_part(id_)) for id_ in ids}) == 1
    assert len({keys.tag_of(shared_part(new_session_id(Owner("acme", f"u{n}")))) for n in range(500)}) == 64
