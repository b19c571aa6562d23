"""Session ids: `ses_`, 5 characters that belong to the tenant, 15 to the user, 16 of chance.

Whose a session is can be told from its id: so the id finds the shard where all sessions of its user are, ids of a user
or of a tenant stand together in the index, and an owner is checked without asking anybody.
"""

import base64
import hashlib
import re
import secrets

from workers.lanes.records import Owner

PREFIX = "ses_"
TENANT_CHARACTERS = 5
USER_CHARACTERS = 15
CHANCE_BYTES = 10

PATTERN = re.compile(r"ses_[a-z2-7]{36}")


def new_session_id(owner: Owner, seed: str | None = None) -> str:
    """The id of a new session. `seed` (an event's id) makes it the same one again when the event is run again."""
    chance = hashlib.sha256(seed.encode()).digest()[:CHANCE_BYTES] if seed else secrets.token_bytes(CHANCE_BYTES)
    return owner_part(owner) + _base32(chance)


def is_session_id(text: str) -> bool:
    """Whether it is an id of ours; services may call their pages' sessions as they like."""
    return PATTERN.fullmatch(text) is not None


def tenant_part(tenant: str) -> str:
    """What the ids of a tenant's sessions begin with. Another tenant's may as well: look at the record."""
    return PREFIX + _digest(tenant)[:TENANT_CHARACTERS]


def owner_part(owner: Owner) -> str:
    """What the ids of a user's sessions, and of nobody else's, begin with."""
    return tenant_part(owner.tenant) + _digest(f"{owner.tenant}/{owner.user}")[:USER_CHARACTERS]


def shared_part(session_id: str) -> str:
    """The part of an id that all sessions of its user share."""
    return session_id[: len(PREFIX) + TENANT_CHARACTERS + USER_CHARACTERS]


def belongs_to(session_id: str, owner: Owner) -> bool:
    """Whether it is the id of a session of this user."""
    return is_session_id(session_id) and shared_part(session_id) == owner_part(owner)


def _digest(text: str) -> str:
    return _base32(hashlib.sha256(text.encode()).digest())


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower().rstrip("=")
