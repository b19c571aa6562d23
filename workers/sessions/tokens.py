"""Client secrets as signed tokens (RFC 9068 `at+jwt`): minted for a user, verified without asking anybody."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

import jwt

from schemas.errors import WorkersError
from schemas.sessions import NAME_PATTERN, Session
from workers.clock import utc_now
from workers.sessions.keys import KeyRing

ISSUER = "chatkit-workers"
AUDIENCE = "chatkit-client"
TYPE = "at+jwt"
CLAIMS = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "sid", "tenant"]
LEEWAY = timedelta(seconds=30)
"""How far the clocks of two machines may differ."""

MAX_TOKEN_BYTES = 4096


class TokenCode(StrEnum):
    """Why a caller gets 401; a page refreshes on the first and asks the user to sign in again on the others."""

    EXPIRED = "token_expired"
    INVALID = "token_invalid"
    REVOKED = "session_revoked"
    REAUTHENTICATE = "reauthenticate"


class TokenError(WorkersError):
    """A client secret that is not taken."""

    reason: ClassVar[str] = "token"

    def __init__(self, code: TokenCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks, as a verified client secret says."""

    tenant: str
    user: str
    session_id: str


class TokenMinter:
    """Makes client secrets."""

    def __init__(self, keys: KeyRing, lifetime: timedelta, now: Callable[[], datetime] = utc_now) -> None:
        self._key = keys.signing
        self._lifetime, self._now = lifetime, now

    def mint(self, user: str, tenant: str, session_id: str | None = None) -> Session:
        """A client secret for a user, in a new session unless one is named."""
        now = self._now()
        expires = (now + self._lifetime).replace(microsecond=0)
        session = session_id or f"ses_{uuid.uuid4().hex}"
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "tenant": tenant,
            "sid": session,
            "jti": uuid.uuid4().hex,
            "iat": now,
            "nbf": now,
            "exp": expires,
        }
        headers = {"typ": TYPE} | ({"kid": self._key.kid} if self._key.kid is not None else {})
        secret = jwt.encode(claims, self._key.private, algorithm=self._key.algorithm, headers=headers)
        return Session(client_secret=secret, expires_at=expires, session_id=session)


class TokenVerifier:
    """Checks client secrets. No I/O."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._jwt = jwt.PyJWT(
            options={"require": CLAIMS, "strict_aud": True, "enforce_minimum_key_length": True}  # PyJWT asks for none
        )

    def verify(self, token: str) -> Identity:
        """Who presents this client secret.

        Raises:
            TokenError: it expired, or it is none of ours.
        """
        try:
            return _identity(self._decode(token))
        except jwt.ExpiredSignatureError:
            raise TokenError(TokenCode.EXPIRED, "the client secret has expired") from None
        except (jwt.PyJWTError, ValueError):
            # one message for every defect: which check failed helps only whoever forges one
            raise TokenError(TokenCode.INVALID, "the client secret is not valid") from None

    def _decode(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_BYTES:
            raise jwt.DecodeError("too long")
        header = jwt.get_unverified_header(token)
        key = self._keys.find(header.get("kid"))
        if key is None or str(header.get("typ")).lower() != TYPE:
            raise jwt.InvalidTokenError("an unknown key or another type of token")
        return self._jwt.decode(
            token, key.public, algorithms=[key.algorithm], audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY
        )


def _identity(claims: dict[str, Any]) -> Identity:
    names = [claims["tenant"], claims["sub"], claims["sid"]]
    if not all(isinstance(name, str) and NAME_PATTERN.fullmatch(name) for name in names):
        raise jwt.InvalidTokenError("a name that cannot be one")
    return Identity(*names)
