"""The session policy: revoked while it waited, or merely over."""

from collections.abc import Collection

from schemas.outcome import Done, Dropped, DropReason, Outcome, Parked, ParkReason
from tests.builders import NOW, create_event, delivery_of
from workers.dispatch import Dispatcher
from workers.errors import StateAwayError
from workers.policies.compose import compose
from workers.policies.delivery import Delivery
from workers.policies.session import SessionPolicy
from workers.settings import Settings


class RevokedSessions:
    """Says that these are revoked; cannot be asked once it is `away`."""

    def __init__(self, *ids: str) -> None:
        self.ids, self.asked, self.away = set(ids), 0, False

    async def revoked(self, session_ids: Collection[str]) -> set[str]:
        self.asked += 1
        if self.away:
            raise StateAwayError("the sessions cannot be asked")
        return self.ids & set(session_ids)


async def done(_: Delivery) -> Outcome:
    return Done()


async def test_what_was_sent_in_a_session_that_is_revoked_by_now_is_not_run() -> None:
    sessions = RevokedSessions("ses_1")
    handler = compose([SessionPolicy(sessions)], done)
    assert await handler(delivery_of(create_event(sessionid="ses_1"))) == Dropped(DropReason.SESSION_REVOKED)
    assert await handler(delivery_of(create_event(sessionid="ses_2"))) == Done(), "over or not, it is not revoked"
    assert sessions.asked == 2
    assert await handler(delivery_of(create_event())) == Done()
    assert sessions.asked == 2, "what upstream sends has no session"


async def test_a_turn_whose_session_nobody_can_be_asked_about_is_tried_again() -> None:
    sessions = RevokedSessions()
    sessions.away = True
    dispatcher = Dispatcher(Settings(), turns=done, light=done, sessions=sessions, now=lambda: NOW)
    waits = await dispatcher(delivery_of(create_event(sessionid="ses_1")))
    assert isinstance(waits, Parked)
    assert waits.reason is ParkReason.STATE_AWAY
    assert await dispatcher(delivery_of(create_event())) == Done()
