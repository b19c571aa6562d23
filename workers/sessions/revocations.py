"""What this process knows of revoked sessions, so that a client secret is checked without asking anybody."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import timedelta

from workers.sessions.records import Revoked
from workers.sessions.tokens import TokenCode

MOST = 50_000
"""Sessions that are remembered one by one; some megabytes."""


class Revocations:
    """The sessions that were revoked as long ago as a client secret of theirs may still be good.

    Bounded: when there are more than `most`, the oldest ones are forgotten, and client secrets that were made before
    those were revoked count as expired. A page then refreshes, and the store, which forgets nothing, says what is so.
    """

    def __init__(self, horizon: timedelta, *, most: int = MOST, now: Callable[[], float] = time.time) -> None:
        """`horizon` is how long a client secret may be good, clocks that differ included."""
        self._horizon_seconds, self._most, self._now = horizon.total_seconds(), most, now
        self._revoked_at: OrderedDict[str, float] = OrderedDict()
        self._forgotten_until = 0.0

    def __len__(self) -> int:
        return len(self._revoked_at)

    @property
    def since(self) -> float:
        """The moment whose revocations still matter."""
        return self._now() - self._horizon_seconds

    def add(self, revoked: Iterable[Revoked]) -> None:
        """These have been revoked. Told twice is told once."""
        since = self.since
        for one in revoked:
            if one.at >= since and one.at > self._forgotten_until:
                self._revoked_at.setdefault(one.session_id, one.at)
        while self._revoked_at:
            session_id, at = next(iter(self._revoked_at.items()))
            if at >= since and len(self._revoked_at) <= self._most:
                break
            del self._revoked_at[session_id]
            if at >= since:
                self._forgotten_until = max(self._forgotten_until, at)

    def refusal(self, session_id: str, issued_at: float) -> TokenCode | None:
        """Why a client secret of this session, made then, is not taken; None when it is.

        The clocks of gateways and of Redis are taken to agree here: a second that they differ is a second in which a
        forgotten revocation is not seen, or a new client secret is refused once.
        """
        if session_id in self._revoked_at:
            return TokenCode.REVOKED
        return TokenCode.EXPIRED if issued_at <= self._forgotten_until else None
