"""A child process of the stack: its output goes to a file, and it never outlives its parent."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

POLL_SECONDS = 0.05
TAIL_LINES = 12
PR_SET_PDEATHSIG = 1
STDERR = 2


class Child:
    """One process, in a session of its own: Ctrl-C reaches the parent alone, which then stops children in order."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path | None,
        *,
        keep: Sequence[int] = (),
    ) -> None:
        """`log`: where its output goes; None: to the stderr of this process. `keep`: file descriptors that it has as
        well."""
        self.name, self.log = name, log or Path(os.devnull)
        with nullcontext(STDERR) if log is None else log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own command lines
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=keep,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  # no threads here
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def said(self, line: str) -> bool:
        """Whether a line of its output is exactly this."""
        return line in self.log.read_text(errors="replace").splitlines()

    def last_lines(self) -> list[str]:
        """The end of its output, to show why it died."""
        return self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]

    def ask_to_stop(self) -> None:
        """SIGTERM, if it still runs."""
        if self.code is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, as a crash would have it: nothing is handed over."""
        self._process.kill()

    def hurry(self) -> None:
        """SIGQUIT, if it still runs: a worker gives back what it has not finished, and ends."""
        if self.code is None:
            self._process.send_signal(signal.SIGQUIT)

    def ensure_stopped(self, within_seconds: float) -> bool:
        """Wait for its end, then kill it and whatever it has started. Whether it ended by itself."""
        try:
            self._process.wait(within_seconds)
            return True
        except subprocess.TimeoutExpired:
            return False
        finally:
            with suppress(ProcessLookupError):  # the group is empty when the child has cleaned up
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def wait_until(probe: Callable[[], bool], *, deadline: float, alive: Callable[[], None]) -> bool:
    """Poll until the probe is true or the deadline (of `time.monotonic`) has passed; `alive` raises to give up."""
    while not probe():
        alive()
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _die_with_parent() -> None:
    """Linux: SIGTERM for the child when its parent dies, even by SIGKILL. Elsewhere that leaves orphans."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
