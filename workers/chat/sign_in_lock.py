"""The composer of a thread whose turn waits for somebody to sign in again: locked, with the reason, until it goes
on."""

from functools import cache

from pydantic import TypeAdapter

from schemas.chatkit import LockedStatus, ThreadMetadata, ThreadStatus

REASON = "Please sign in again: your message waits until you have."
"""Shown in the composer."""

BEFORE = "status_before_sign_in"
"""Where the thread's metadata keeps the status that comes back. Clients do not get it."""


def is_locked(thread: ThreadMetadata) -> bool:
    """Whether the thread waits for a sign-in."""
    return BEFORE in thread.metadata


def is_lock(status: ThreadStatus) -> bool:
    """Whether a status that clients were shown is that of such a thread."""
    return isinstance(status, LockedStatus) and status.reason == REASON


def lock(thread: ThreadMetadata) -> None:
    """Lock the composer. Once more changes nothing."""
    if not is_locked(thread):
        thread.metadata[BEFORE] = thread.status.model_dump(mode="json")
        thread.status = LockedStatus(reason=REASON)


def unlock(thread: ThreadMetadata) -> None:
    """Give the thread the status that it had. Of a thread that waits for nobody, nothing changes."""
    before = thread.metadata.pop(BEFORE, None)
    if before is not None:
        thread.status = _statuses().validate_python(before)


@cache
def _statuses() -> TypeAdapter[ThreadStatus]:
    return TypeAdapter(ThreadStatus)
