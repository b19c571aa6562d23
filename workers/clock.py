"""The clock of a process."""

from datetime import UTC, datetime, timedelta

_stepped = timedelta(0)


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC) + _stepped


def step(by: timedelta) -> None:
    """Turn the clock of this process, for tests of a machine whose clock is off."""
    global _stepped
    _stepped += by
