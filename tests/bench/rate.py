"""Events per second, taken the same way from our worker and from the baseline: by when every n-th of them ended."""

from collections.abc import Sequence

WARM_UP = 0.1
"""The share of the events that is not counted: connections open, code is loaded."""


def rate_of(ended: Sequence[float], each: int) -> float:
    """Events per second.

    Args:
        ended: when marked events ended, in seconds, in any order.
        each: every how many-th event is marked.
    """
    times = sorted(ended)
    first = int(len(times) * WARM_UP)
    elapsed = times[-1] - times[first]
    return (len(times) - 1 - first) * each / elapsed if elapsed > 0 else float("inf")
