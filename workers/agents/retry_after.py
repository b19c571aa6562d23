"""How long a provider wants us to wait, from its headers or from the text of a failed stream."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
TRY_AGAIN = re.compile(r"try again in ((?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+)", re.IGNORECASE)
EPOCH_FROM = 1_000_000_000
"""A plain reset number from here on is a time (seconds since 1970), not a duration."""


def retry_after_of(headers: Mapping[str, str], now: datetime | None = None) -> timedelta | None:
    """The longest wait that the headers ask for: `retry-after-ms`, `retry-after`, and the resets of spent limits.

    Args:
        headers: with lower-case names, or a mapping that ignores case.
        now: aware; taken from the clock when left out.
    """
    waits = [wait for wait in _waits(headers, now or datetime.now(UTC)) if wait > timedelta(0)]
    return max(waits, default=None)


def retry_after_of_text(text: str) -> timedelta | None:
    """The wait of "Please try again in 1m6.5s", the only place of a stream that names it."""
    found = TRY_AGAIN.search(text)
    return _duration(found.group(1)) if found else None


def _waits(headers: Mapping[str, str], now: datetime) -> Iterator[timedelta]:
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        yield timedelta(milliseconds=milliseconds)
    elif (after := headers.get("retry-after")) is not None:
        yield from _after(after, now)
    for kind in ("requests", "tokens"):
        # the other limit's reset is no reason to wait while something of it remains
        if headers.get(f"x-ratelimit-remaining-{kind}", "0") == "0":
            yield from _reset(headers.get(f"x-ratelimit-reset-{kind}"), now)
    yield from _reset(headers.get("x-ratelimit-reset"), now)


def _after(value: str, now: datetime) -> Iterator[timedelta]:
    seconds = _number(value)
    if seconds is not None:
        yield timedelta(seconds=seconds)
        return
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return
    yield (at if at.tzinfo else at.replace(tzinfo=UTC)) - now


def _reset(value: str | None, now: datetime) -> Iterator[timedelta]:
    if value is None:
        return
    number = _number(value)
    if number is None:
        duration = _duration(value)
        if duration is not None:
            yield duration
    elif number >= EPOCH_FROM:
        yield timedelta(seconds=number - now.timestamp())
    else:
        yield timedelta(seconds=number)


def _duration(text: str) -> timedelta | None:
    parts = DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        return None
    return sum((UNITS[unit] * float(number) for number, unit in parts), timedelta())


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < 1e12 else None
