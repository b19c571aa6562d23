"""The interpreter of a worker process, set for many small things on one loop beside Celery's thread."""

import gc
import sys

from workers.pool.tracebacks import keep_tracebacks_brief

SWITCH_SECONDS = 0.0005
"""Each message goes from Celery's thread to the loop's and back: with Python's 5 ms each waits out the other's turn."""

GC_THRESHOLD = (20_000, 20, 20)
"""A turn makes thousands of objects that die without the collector's help: with Python's 700 it runs all the time,
which is 15 % of a turn's CPU."""


def tune_interpreter() -> None:
    """Call it when the program's code is loaded: the collector does not look at what there is by now again."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*GC_THRESHOLD)
    gc.collect()
    gc.freeze()
    keep_tracebacks_brief()
