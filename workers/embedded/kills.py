"""The playground's wish that a worker be killed: from the gateway of the stack, which knows who asks, to the stack,
which knows its workers. A pipe between the two, so that nobody else can wish."""

import os
import select
from collections.abc import Sequence

MOST_BYTES = 4096


class KillRequests:
    """The stack's side. `asking` is the descriptor that its gateway is given."""

    def __init__(self) -> None:
        self._asked, self.asking = os.pipe()
        os.set_blocking(self.asking, False)

    def wait(self, seconds: float) -> Sequence[int]:
        """Process ids that were asked for, as soon as there are any; none when the time is over."""
        ready, _, _ = select.select([self._asked], [], [], seconds)
        return [int(line) for line in os.read(self._asked, MOST_BYTES).split()] if ready else []

    def close(self) -> None:
        """Nobody is killed any more."""
        os.close(self._asked)
        os.close(self.asking)


def ask_to_kill(asking: int, pid: int) -> None:
    """The gateway's side. Raises BlockingIOError: nobody reads."""
    os.write(asking, b"%d\n" % pid)
