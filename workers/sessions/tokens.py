"""Client secrets as signed tokens (RFC 9068 `at+jwt`): minted for a user, verified without asking anybody."""

import hashlib
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import jwt

from schemas.errors import WorkersError
from schemas.sessions import NAME_PATTERN, Session
from workers.clock import utc_now
from workers.lanes.records import Owner
from workers.sessions.ids import new_session_id
from workers.sessions.keys import KeyRing, SigningKey

ISSUER = "chatkit-workers"
AUDIENCE = "chatkit-client"
TYPE = "at+jwt"
CLAIMS = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "sid", "tenant"]
LEEWAY = timedelta(seconds=30)
"""How far the clocks of two machines may differ."""

MAX_TOKEN_BYTES = 4096
NOT_VALID = "the client secret is not valid"

REMEMBERED = 10_000
"""Client secrets whose signature has been checked; a few megabytes."""


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

    def mint(self, user: str, tenant: str, session_id: str | None = None, *, until: datetime | None = None) -> Session:
        """A client secret for a user.

        Args:
            user: whom it is for.
            tenant: of the user.
            session_id: of its session; without one it stands alone, and cannot be refreshed.
            until: end of the session, which no client secret of it outlives.
        """
        now = self._now()
        expires = (now + self._lifetime).replace(microsecond=0)
        if until is not None:
            expires = min(expires, until.replace(microsecond=0))
        session = session_id or new_session_id(Owner(tenant, user))
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


class RevokedSessions(Protocol):
    """What is known of revoked sessions, here and now."""

    def refusal(self, session_id: str, issued_at: float) -> TokenCode | None:
        """Why a client secret of the session, made then, is not taken; None when it is."""
        ...


@dataclass(frozen=True, slots=True)
class _Checked:
    """What a client secret says whose signature is good. Times are in seconds since 1970."""

    identity: Identity
    issued_at: float
    expires_at: float


class TokenVerifier:
    """Checks client secrets. No I/O; a page sends the same one again and again, so its signature is checked once."""

    def __init__(
        self, keys: KeyRing, revoked: RevokedSessions | None = None, *, now: Callable[[], float] = time.time
    ) -> None:
        """Without `revoked`, only the client secrets themselves count. `now` decides about those that were seen
        before."""
        self._keys, self._revoked, self._now = keys, revoked, now
        self._key_of: dict[str, SigningKey] = {}
        """By the head of a client secret, as it is encoded: all of a key have the same."""
        self._checked: dict[bytes, _Checked] = {}
        """By digest, oldest first: memory holds no client secret longer than its request."""
        self._jwt = jwt.PyJWT(
            options={"require": CLAIMS, "strict_aud": True, "enforce_minimum_key_length": True}  # PyJWT asks for none
        )

    def verify(self, token: str) -> Identity:
        """Who presents this client secret.

        Raises:
            TokenError: it expired, its session was revoked, or it is none of ours.
        """
        checked = self._check(token)
        if checked.expires_at <= self._now() - LEEWAY.total_seconds():
            raise TokenError(TokenCode.EXPIRED, "the client secret has expired")
        if self._revoked is not None:
            match self._revoked.refusal(checked.identity.session_id, checked.issued_at):
                case TokenCode.REVOKED as code:
                    raise TokenError(code, "the session was ended; sign in again")
                case TokenCode() as code:
                    raise TokenError(code, "the client secret has to be refreshed")
        return checked.identity

    def has_ended(self, session_id: str) -> bool:
        """Whether the session was revoked. One whose client secret merely expired goes on."""
        return self._revoked is not None and self._revoked.refusal(session_id, math.inf) is TokenCode.REVOKED

    def _check(self, token: str) -> _Checked:
        """What the token says, if it is one of ours. Of one that was seen before, it may have expired meanwhile."""
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenError(TokenCode.INVALID, NOT_VALID)
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        checked = self._checked.get(digest)
        if checked is None:
            checked = self._read(token)
            if len(self._checked) >= REMEMBERED:
                del self._checked[next(iter(self._checked))]
            self._checked[digest] = checked
        return checked

    def _read(self, token: str) -> _Checked:
        try:
            claims = self._decode(token)
            return _Checked(_identity(claims), float(claims["iat"]), float(claims["exp"]))
        except jwt.ExpiredSignatureError:
            raise TokenError(TokenCode.EXPIRED, "the client secret has expired") from None
        except (jwt.PyJWTError, ValueError):
            # one message for every defect: which check failed helps only whoever forges one
            raise TokenError(TokenCode.INVALID, NOT_VALID) from None

    def _decode(self, token: str) -> dict[str, Any]:
        head = token.partition(".")[0]
        key = self._key_of.get(head) or self._read_head(token)
        claims = self._jwt.decode(
            token, key.public, algorithms=[key.algorithm], audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY
        )
        self._key_of[head] = key  # now that the signature was good, so that nobody else can fill this
        return claims

    def _read_head(self, token: str) -> SigningKey:
        header = jwt.get_unverified_header(token)
        key = self._keys.find(header.get("kid"))
        if key is None or str(header.get("typ")).lower() != TYPE:
            raise jwt.InvalidTokenError("an unknown key or another type of token")
        return key


def _identity(claims: dict[str, Any]) -> Identity:
    names = [claims["tenant"], claims["sub"], claims["sid"]]
    if not all(isinstance(name, str) and NAME_PATTERN.fullmatch(name) for name in names):
        raise jwt.InvalidTokenError("a name that cannot be one")
    return Identity(*names)
