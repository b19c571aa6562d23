"""The worker of `tests.model_worker`, that stops itself (SIGSTOP) when a turn is about to store an answer to "freeze".

Only once, and only where TEST_FREEZE names a folder: there it says that it has come so far (`reached`), waits for a
word (`go`), and says that it stops (`frozen`).
"""

import asyncio
import os
import signal
from pathlib import Path

from workers.chat import unit_of_work

FOLDER = os.environ.get("TEST_FREEZE")

commit = unit_of_work.TurnStore.commit


async def freezing(self: unit_of_work.TurnStore, *, final: bool = False) -> None:
    """Stop between the last frame and the transaction that stores the answer."""
    asked = any("freeze" in str(item) for item in self.view.recent(10))
    if FOLDER is not None and final and asked and not Path(FOLDER, "reached").exists():
        Path(FOLDER, "reached").touch()
        while not Path(FOLDER, "go").exists():
            await asyncio.sleep(0.01)
        Path(FOLDER, "frozen").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    await commit(self, final=final)


unit_of_work.TurnStore.commit = freezing  # type: ignore[method-assign]  # a double

from tests.model_worker import app  # noqa: E402  # only now: it builds the app that uses the above

__all__ = ["app"]
