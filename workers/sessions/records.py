"""What the session store answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from workers.lanes.records import Owner
from workers.sessions.refresh_tokens import RefreshToken

NotLiving = Literal["unknown", "revoked"]
"""`unknown`: it has come to its end by itself, or there never was one."""

NotRotated = Literal["invalid", "reused"] | NotLiving
"""`invalid`: no token of this session. `reused`: a spent one, for which the session was revoked just now."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """A refresh token was spent for `successor`, now or a moment ago; the session ends at `ends`, however much used."""

    successor: RefreshToken
    owner: Owner
    ends: datetime


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session that lives."""

    session_id: str
    owner: Owner
    made_at: datetime
    seen_at: datetime
    """When its refresh token was last spent, or a service last vouched for its user."""
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions, and the id to go on after; None at the end. A page may be empty and not the last."""

    items: Sequence[SessionRecord]
    next: str | None


@dataclass(frozen=True, slots=True)
class Revoked:
    """A session that was revoked, and when, in seconds of Redis' clock."""

    session_id: str
    at: float
