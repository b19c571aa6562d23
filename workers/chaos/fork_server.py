"""Starts processes that have everything imported: `python -m workers.chaos.fork_server MODULE…`.

Importing costs three seconds of CPU, and a run starts dozens of workers. It reads an order per line, forks, and says
with one line each that a process has begun and that one has ended. It ends, and its processes with it, when its input
does; should it be killed, the kernel kills them.
"""

import ctypes
import gc
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

from workers.chaos.order import Order

LOOK_SECONDS = 0.02
PR_SET_PDEATHSIG = 1


class ForkServer:
    """The server's side. Single-threaded, without a loop: nothing of it may matter to what it forks."""

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._running: dict[int, str] = {}
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def serve(self) -> None:
        """Take orders until the input ends."""
        buffer = b""
        while True:
            ready, _, _ = select.select([0], [], [], LOOK_SECONDS)
            if ready:
                data = os.read(0, 1 << 20)
                if not data:
                    break
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self._start(Order.of_line(line))
            self._reap()
        self._end()

    def _start(self, order: Order) -> None:
        pid = os.fork()
        if pid == 0:
            self._become(order)
        self._running[pid] = order.name
        self._say({"began": order.name, "pid": pid})

    def _become(self, order: Order) -> NoReturn:
        """The child: a session of its own, so that Ctrl-C is its parent's affair; never returns."""
        code = 1
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self._libc is not None:
                self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            null = os.open(os.devnull, os.O_RDONLY)
            for target, source in ((0, null), (1, log), (2, log)):
                os.dup2(source, target)
            os.environ.clear()
            os.environ.update(order.environment)
            sys.argv[1:] = order.arguments
            module, _, function = order.call.partition(":")
            code = int(getattr(import_module(module), function)(list(order.arguments)) or 0)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:  # noqa: BLE001  # the last thing of a process: its log is all that is left of it
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._say({"ended": self._running.pop(pid, "?"), "pid": pid, "code": os.waitstatus_to_exitcode(status)})

    def _end(self) -> None:
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
        for pid in self._running:
            os.waitpid(pid, 0)


def main() -> None:
    """Import, say so, serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in sys.argv[1:]:
        import_module(module)
    gc.collect()
    gc.freeze()  # what is imported is never garbage, and stays shared with the children
    _say({"ready": True})
    ForkServer(_say).serve()


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
