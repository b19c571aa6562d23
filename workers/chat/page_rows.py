"""The SQL of what pages say all the time, feedback and the state of browser sessions: one statement for many rows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, null

from schemas.events import SESSION_PREFIX, UI_PREFIX, Event
from schemas.names import NAME_RULE, is_name
from workers.chat.tables import feedback, sessions
from workers.errors import PermanentError
from workers.lanes.records import Owner

FEEDBACK_KEY = ("tenant", "thread_id", "item_id")
SESSION_KEY = ("tenant", "id")
NO_THREAD = ""
"""The page shows no thread; null says nothing about it."""
SAYING_NO_THREAD = ("start", "ready", "thread.change", "end")
"""Events after which the page shows a thread only if they name one."""
STARTING_ANEW = ("start", "ready")
"""Events of a page that was loaded anew, or whose session was: what went wrong before is over."""
NOT_SAYING_READY = ("error", "refresh")
"""Events that come with a page that is ready and with one that is not."""

Row = Mapping[str, Any]


def feedback_values(owner: Owner, event_id: str, params: Mapping[str, Any]) -> list[Row]:
    """The rows of a feedback request. Raises PermanentError: an id that no item can have."""
    item_ids: list[str] = params["item_ids"]
    if not all(map(is_name, item_ids)):
        raise PermanentError(f"item_ids: each must be {NAME_RULE}")
    shared = {
        "tenant": owner.tenant,
        "thread_id": params["thread_id"],
        "user_id": owner.user,
        "kind": params["kind"],
        "event_id": event_id,
    }
    return [shared | {"item_id": item_id} for item_id in item_ids]


def write_feedback(connection: Connection, insert: Any, rows: Sequence[Row]) -> None:
    """Write feedback; the last word on an item stays. The caller has made sure of the threads' owners."""
    if not rows:
        return
    statement = insert(feedback)
    said = {name: statement.excluded[name] for name in ("kind", "event_id")}
    statement = statement.on_conflict_do_update(index_elements=FEEDBACK_KEY, set_=said)
    connection.execute(statement, _latest(rows, FEEDBACK_KEY))


def session_values(event: Event, seen: datetime) -> Row:
    """What is kept of a UI or session event: names and ids, no text of the user's."""
    name = event.type.removeprefix(UI_PREFIX).removeprefix(SESSION_PREFIX)
    error = event.data.get("error")
    kind = str(error.get("name", "")) if isinstance(error, dict) else None
    thread_id = event.data.get("threadId") or event.data.get("thread_id")
    return {
        "tenant": event.tenant,
        "id": event.data.get("session_id") or event.sessionid or event.userid,
        "user_id": event.userid,
        "open_thread_id": thread_id or (NO_THREAD if name in SAYING_NO_THREAD else None),
        "ready": int(event.is_ui and name != "error"),
        "last_event": name,
        "last_error": kind if kind is None or is_name(kind) else "Error",
        "last_seen": seen,
    }


def write_sessions(connection: Connection, insert: Any, rows: Sequence[Row]) -> None:
    """Update what is known of sessions; one that is another user's is left as it is."""
    if not rows:
        return
    statement = insert(sessions)
    new, old = statement.excluded, sessions.c
    statement = statement.on_conflict_do_update(
        index_elements=SESSION_KEY,
        set_={
            "last_event": new.last_event,
            "last_seen": new.last_seen,
            "open_thread_id": func.coalesce(new.open_thread_id, old.open_thread_id),
            "last_error": case(
                (new.last_event.in_(STARTING_ANEW), null()), else_=func.coalesce(new.last_error, old.last_error)
            ),
            "ready": case((new.last_event.in_(NOT_SAYING_READY), old.ready), else_=new.ready),
        },
        where=old.user_id == new.user_id,
    )
    connection.execute(statement, _latest(rows, SESSION_KEY))


def _latest(rows: Sequence[Row], key: tuple[str, ...]) -> list[Row]:
    """The last of the rows with the same key, in the keys' order: two batches must not wait for each other."""
    latest = {tuple(row[name] for name in key): row for row in rows}
    return [latest[place] for place in sorted(latest)]
