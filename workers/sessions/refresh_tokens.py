"""Refresh tokens: opaque, 256 bits of chance, good for one refresh.

The successor of a token is made of the token itself and of a salt, by HMAC. The salt is chance too, and the state keeps
it for the few seconds of grace only. So two requests that present the same token at once get the same successor,
whichever process they come to, and the state never holds anything that a token could be made of: no token, no encrypted
one, no key, and of the salts none without the token that was spent. Keeping the successor encrypted would have needed a
key in every gateway, and its rotation.

All tokens of a session share a second secret, their family. Whoever presents a token with the right family and a wrong
rest has an old one: it was spent, and the session ends. Without the family, a wrong token says nothing about anybody,
so that an id alone (which is in logs) cannot be used to end somebody's session.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Self

from workers.sessions.ids import PREFIX
from workers.sessions.tokens import TokenCode, TokenError

FAMILY_BYTES = 16
SECRET_BYTES = 32
SALT_BYTES = 32
PATTERN = re.compile(r"crt_([a-z2-7]{36})_([A-Za-z0-9_-]{64})")
CONTEXT = b"chatkit-workers refresh token\n"
"""So that nothing else can ever be made with the same key and salt."""


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One refresh token. Its text is never logged: `repr` leaves the secrets out."""

    session_id: str
    family: bytes = field(repr=False)
    secret: bytes = field(repr=False)

    @classmethod
    def new(cls, session_id: str) -> Self:
        """The first token of a session."""
        return cls(session_id, secrets.token_bytes(FAMILY_BYTES), secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a token as a client presents it.

        Raises:
            TokenError: it is none.
        """
        found = PATTERN.fullmatch(text)
        if found is None:
            raise TokenError(TokenCode.INVALID, "the refresh token is not valid")
        raw = base64.urlsafe_b64decode(found[2])
        return cls(PREFIX + found[1], raw[:FAMILY_BYTES], raw[FAMILY_BYTES:])

    @property
    def text(self) -> str:
        """The token as clients keep it."""
        raw = base64.urlsafe_b64encode(self.family + self.secret).decode()
        return f"crt_{self.session_id.removeprefix(PREFIX)}_{raw}"

    @property
    def digest(self) -> bytes:
        """What the state keeps of it."""
        return hashlib.sha256(self.text.encode()).digest()

    @property
    def family_digest(self) -> bytes:
        """What the state keeps of its family."""
        return hashlib.sha256(self.family).digest()

    def successor(self, salt: bytes) -> Self:
        """The next token of the session: the same one for the same salt."""
        return type(self)(self.session_id, self.family, hmac.digest(self.secret, CONTEXT + salt, "sha256"))


def new_salt() -> bytes:
    """What makes a successor another one than anybody could foresee, the holder of the spent token included."""
    return secrets.token_bytes(SALT_BYTES)
