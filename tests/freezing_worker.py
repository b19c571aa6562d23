"""The worker of `tests.model_worker`, that stops itself (SIGSTOP) when a turn is about to store an answer to "freeze".

Only once: whoever runs the event after a SIGCONT, or in another process whose environment names no file, goes on.
"""

import os
import signal
from pathlib import Path

from workers.chat import unit_of_work

MARK = os.environ.get("TEST_FREEZE_ONCE")
"""A file that is made when it has stopped."""

commit = unit_of_work.TurnStore.commit


async def freezing(self: unit_of_work.TurnStore, *, final: bool = False) -> None:
    """Stop between the last frame and the transaction that stores the answer."""
    said = any("freeze" in str(item) for item in self.view.recent(10))
    if final and said and MARK is not None and not Path(MARK).exists():
        Path(MARK).touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    await commit(self, final=final)


unit_of_work.TurnStore.commit = freezing  # type: ignore[method-assign]  # a double

from tests.model_worker import app  # noqa: E402  # only now: it builds the app that uses the above

__all__ = ["app"]
