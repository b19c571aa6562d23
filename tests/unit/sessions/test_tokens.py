"""Client secrets: what is minted is taken, whatever else is not."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from workers.errors import SettingsError
from workers.lanes.records import Owner
from workers.sessions.ids import new_session_id
from workers.sessions.keys import KeyRing
from workers.sessions.records import Revoked
from workers.sessions.revocations import Revocations
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


def test_a_secret_that_was_seen_before_still_expires_and_is_remembered_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.sessions.tokens.REMEMBERED", 3)
    keys, clock = ring(secret_key=SECRET), [time.time()]
    verifier = TokenVerifier(keys, now=lambda: clock[0])
    secrets = [TokenMinter(keys, LIFETIME).mint("u1", "acme").client_secret for _ in range(5)]
    for _ in range(2):
        assert [verifier.verify(secret).user for secret in secrets] == ["u1"] * 5
    assert len(verifier._checked) == 3
    clock[0] += LIFETIME.total_seconds() + 20
    assert verifier.verify(secrets[-1]).user == "u1", "within the leeway"
    clock[0] += 11
    assert code_of(verifier, secrets[-1]) is TokenCode.EXPIRED


def test_the_verifier_keeps_no_secret() -> None:
    keys = ring(secret_key=SECRET)
    verifier = TokenVerifier(keys)
    secret = TokenMinter(keys, LIFETIME).mint("u1", "acme").client_secret
    verifier.verify(secret)
    assert secret not in repr(verifier._checked)


def test_a_secret_of_a_revoked_session_is_refused_also_when_it_was_taken_before() -> None:
    keys, revocations = ring(secret_key=SECRET), Revocations(LIFETIME)
    verifier, minter = TokenVerifier(keys, revocations), TokenMinter(keys, LIFETIME)
    session, other = minter.mint("u1", "acme"), minter.mint("u1", "acme")
    assert verifier.verify(session.client_secret).session_id == session.session_id
    revocations.add([Revoked(session.session_id, time.time())])
    assert code_of(verifier, session.client_secret) is TokenCode.REVOKED
    assert verifier.verify(other.client_secret).session_id == other.session_id


def test_a_secret_does_not_outlive_its_session() -> None:
    keys = ring(secret_key=SECRET)
    soon = datetime.now(UTC) + timedelta(seconds=90)
    session = TokenMinter(keys, LIFETIME).mint("u1", "acme", new_session_id(Owner("acme", "u1")), until=soon)
    assert session.expires_at == soon.replace(microsecond=0)


def signed_by_hand(key: Any, **headers: Any) -> str:
    """A sound client secret but for its header."""
    parts = ({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1", **headers}, claims(iat=1, nbf=1, exp=9_999_999_999))
    start = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return (start + b"." + base64.urlsafe_b64encode(key.sign(start)).rstrip(b"=")).decode()


@pytest.mark.parametrize("headers", [{"crit": ["exp"]}, {"kid": ["k1"]}, {"kid": 7}, {"kid": "other"}, {"alg": "none"}])
def test_a_header_that_asks_for_something_else_is_refused(headers: dict[str, Any]) -> None:
    keys = ring(signing_keys=json.dumps({"k1": raw_key()}))
    verifier = TokenVerifier(keys)
    assert verifier.verify(signed_by_hand(keys.signing.private)).user == "u1"
    assert code_of(verifier, signed_by_hand(keys.signing.private, **headers)) is TokenCode.INVALID


def test_a_secret_of_another_deployment_is_refused() -> None:
    theirs = TokenMinter(ring(signing_keys=json.dumps({"k1": raw_key()})), LIFETIME).mint("u1", "acme").client_secret
    ours = TokenVerifier(ring(signing_keys=json.dumps({"k1": raw_key()})))
    assert code_of(ours, theirs) is TokenCode.INVALID
