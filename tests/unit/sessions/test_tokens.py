"""Client secrets: what is minted is taken, whatever else is not."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from workers.errors import SettingsError
from workers.sessions.keys import KeyRing
from workers.sessions.tokens import AUDIENCE, ISSUER, Identity, TokenCode, TokenError, TokenMinter, TokenVerifier
from workers.settings import Settings

SECRET = "s" * 40
LIFETIME = timedelta(minutes=10)


def pem() -> str:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def raw_key() -> str:
    raw = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return base64.b64encode(raw).decode()


def ring(**settings: str) -> KeyRing:
    secrets: dict[str, Any] = {name: SecretStr(value) for name, value in settings.items()}
    return KeyRing.from_settings(Settings(**secrets))


def claims(**changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    fields = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "u1",
        "tenant": "acme",
        "sid": "ses_1",
        "jti": "1",
        "iat": now,
        "nbf": now,
        "exp": now + LIFETIME,
    }
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def signed(fields: dict[str, Any], *, key: Any = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    return jwt.encode(fields, key, algorithm=algorithm, headers={"typ": "at+jwt", **headers})


def code_of(verifier: TokenVerifier, token: str) -> TokenCode:
    with pytest.raises(TokenError) as caught:
        verifier.verify(token)
    return caught.value.code


@pytest.mark.parametrize(
    "settings",
    [
        {"secret_key": SECRET},
        {"signing_keys": json.dumps({"k1": pem()})},
        {"signing_keys": json.dumps({"k2": raw_key(), "k1": pem()}), "secret_key": SECRET},
    ],
)
def test_a_minted_secret_is_taken_and_names_its_user(settings: dict[str, str]) -> None:
    keys = ring(**settings)
    session = TokenMinter(keys, LIFETIME).mint("u1", "acme")
    assert TokenVerifier(keys).verify(session.client_secret) == Identity("acme", "u1", session.session_id)
    assert timedelta(0) < session.expires_at - datetime.now(UTC) <= LIFETIME


def test_a_session_keeps_its_id_when_it_is_named() -> None:
    session = TokenMinter(ring(secret_key=SECRET), LIFETIME).mint("u1", "acme", session_id="ses_7")
    assert session.session_id == "ses_7"


def test_the_first_key_signs_and_a_key_that_was_rotated_out_of_first_place_still_verifies() -> None:
    old, new = pem(), pem()
    before = TokenMinter(ring(signing_keys=json.dumps({"old": old})), LIFETIME).mint("u1", "acme")
    keys = ring(signing_keys=json.dumps({"new": new, "old": old}))
    after = TokenMinter(keys, LIFETIME).mint("u1", "acme")
    assert jwt.get_unverified_header(after.client_secret)["kid"] == "new"
    assert TokenVerifier(keys).verify(before.client_secret).user == "u1"
    assert code_of(TokenVerifier(ring(signing_keys=json.dumps({"new": new}))), before.client_secret) == "token_invalid"


def test_a_secret_is_taken_within_the_leeway_and_is_expired_after_it() -> None:
    keys = ring(secret_key=SECRET)
    verifier = TokenVerifier(keys)
    just = TokenMinter(keys, LIFETIME, now=lambda: datetime.now(UTC) - LIFETIME - timedelta(seconds=20))
    long_ago = TokenMinter(keys, LIFETIME, now=lambda: datetime.now(UTC) - LIFETIME - timedelta(seconds=40))
    assert verifier.verify(just.mint("u1", "acme").client_secret).user == "u1"
    assert code_of(verifier, long_ago.mint("u1", "acme").client_secret) is TokenCode.EXPIRED


def test_a_secret_of_the_future_is_refused() -> None:
    keys = ring(secret_key=SECRET)
    ahead = TokenMinter(keys, LIFETIME, now=lambda: datetime.now(UTC) + timedelta(minutes=2))
    assert code_of(TokenVerifier(keys), ahead.mint("u1", "acme").client_secret) is TokenCode.INVALID


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "sid", "tenant"])
def test_a_secret_without_one_of_its_claims_is_refused(claim: str) -> None:
    token = signed(claims(**{claim: None}))
    assert code_of(TokenVerifier(ring(secret_key=SECRET)), token) is TokenCode.INVALID


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another"},
        {"aud": [AUDIENCE]},
        {"iss": "another"},
        {"sub": "a/b"},
        {"sub": ""},
        {"tenant": "{x}"},
        {"tenant": 7},
        {"sid": "a b"},
    ],
)
def test_a_secret_with_a_wrong_claim_is_refused(changes: dict[str, Any]) -> None:
    token = signed(claims(**changes))
    assert code_of(TokenVerifier(ring(secret_key=SECRET)), token) is TokenCode.INVALID


def test_only_access_tokens_are_taken() -> None:
    verifier = TokenVerifier(ring(secret_key=SECRET))
    assert verifier.verify(signed(claims())).user == "u1"
    assert code_of(verifier, signed(claims(), typ="JWT")) is TokenCode.INVALID


def test_a_token_without_a_signature_is_refused() -> None:
    token = signed(claims(), key=None, algorithm="none")
    assert code_of(TokenVerifier(ring(secret_key=SECRET)), token) is TokenCode.INVALID
    keys = ring(signing_keys=json.dumps({"k1": pem()}))
    assert code_of(TokenVerifier(keys), signed(claims(), key=None, algorithm="none", kid="k1")) is TokenCode.INVALID


def test_a_token_signed_with_another_secret_is_refused() -> None:
    token = signed(claims(), key="x" * 40)
    assert code_of(TokenVerifier(ring(secret_key=SECRET)), token) is TokenCode.INVALID


def test_a_token_cannot_choose_the_algorithm_of_a_key() -> None:
    """The old confusion: the public half of an EdDSA key is no secret, so it must not serve as one for HS256."""
    keys = ring(signing_keys=json.dumps({"k1": raw_key()}))
    public = keys.signing.public
    assert not isinstance(public, bytes)
    token = signed(claims(), key=public.public_bytes_raw(), kid="k1")
    assert code_of(TokenVerifier(keys), token) is TokenCode.INVALID
    assert code_of(TokenVerifier(ring(secret_key=SECRET)), signed(claims(), key=SECRET * 2, algorithm="HS512")) is (
        TokenCode.INVALID
    )


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é.é.é", "e30.e30.e30", "x" * 10_000, "\x00"])
def test_what_is_no_token_is_refused(token: str) -> None:
    assert code_of(TokenVerifier(ring(secret_key=SECRET)), token) is TokenCode.INVALID


def test_a_changed_payload_is_refused() -> None:
    head, _, signature = signed(claims()).split(".")
    forged = base64.urlsafe_b64encode(json.dumps({"sub": "root"}).encode()).rstrip(b"=").decode()
    assert code_of(TokenVerifier(ring(secret_key=SECRET)), f"{head}.{forged}.{signature}") is TokenCode.INVALID


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({}, "CHATKIT_SECRET_KEY"),
        ({"secret_key": "short"}, "CHATKIT_SECRET_KEY"),
        ({"signing_keys": "no json"}, "CHATKIT_SIGNING_KEYS"),
        ({"signing_keys": "[]"}, "CHATKIT_SIGNING_KEYS"),
        ({"signing_keys": "{}"}, "CHATKIT_SIGNING_KEYS"),
        ({"signing_keys": '{"k1": 7}'}, "CHATKIT_SIGNING_KEYS"),
        ({"signing_keys": '{"k1": "c2hvcnQ="}'}, "CHATKIT_SIGNING_KEYS"),
        ({"signing_keys": '{"k1": "-----BEGIN nonsense"}'}, "CHATKIT_SIGNING_KEYS"),
    ],
)
def test_wrong_keys_stop_the_start_with_a_line_that_names_the_variable(
    settings: dict[str, str], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CHATKIT_SECRET_KEY", "CHATKIT_SIGNING_KEYS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match=f"^{variable}: ") as caught:
        ring(**settings)
    assert "\n" not in str(caught.value)
    assert "c2hvcnQ=" not in str(caught.value)
