"""The stack: starts every part, waits until each is ready, and stops them in order."""

import json
import os
import signal
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes, token_hex
from types import FrameType

from schemas.errors import WorkersError
from workers.embedded.child import Child, wait_until
from workers.embedded.kills import KillRequests
from workers.embedded.redis import HOST, answers_ping, free_port, is_free, redis_command

START_SECONDS = 90.0
WATCH_SECONDS = 0.2
STOP_SECONDS = {"gateway": 8.0, "worker": 15.0, "flower": 5.0, "redis": 5.0}
OWN = ("CHATKIT_BROKER_URL", "CHATKIT_STATE_URL", "CHATKIT_DATABASE_URL")
PROVIDER = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
DEFAULT_MODEL, NARROW_MODEL = "gpt-4.1", "narrow"
NARROW = {
    "CHATKIT_ALLOWED_MODELS": f"{DEFAULT_MODEL},{NARROW_MODEL}",
    "CHATKIT_LIMITS": json.dumps({"models": {NARROW_MODEL: {"rpm": 12}}}),
}
"""Beside the scripted model one of the same words that answers once in five seconds: the playground shows a line."""


class StackError(WorkersError):
    """A part did not start, or ended. The message names it and holds the end of its output."""

    reason = "stack"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `folder` gets the data and the logs; `keep` makes Redis write its data there too."""

    folder: Path
    port: int
    flower_port: int
    workers: int = 1
    keep: bool = False
    scripted: bool = False
    redis_port: int = field(default_factory=free_port)
    service_key: str = field(
        default_factory=lambda: os.environ.get("CHATKIT_API_KEYS", "").split(",")[0] or token_hex(16)
    )

    @property
    def redis_url(self) -> str:
        return f"redis://{HOST}:{self.redis_port}/0"

    @property
    def gateway_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def flower_url(self) -> str:
        return f"http://{HOST}:{self.flower_port}"

    def environment(self) -> dict[str, str]:
        """What the children are given: the caller's settings, with the stack's own Redis and database."""
        left_out = PROVIDER if self.scripted else ()
        environment = {name: value for name, value in os.environ.items() if value and name not in left_out}
        if not environment.keys() & {"CHATKIT_SIGNING_KEYS", "CHATKIT_SECRET_KEY"}:
            environment["CHATKIT_SIGNING_KEYS"] = json.dumps({"k1": b64encode(token_bytes(32)).decode()})
        environment.setdefault("CHATKIT_API_KEYS", self.service_key)
        environment.setdefault("CHATKIT_DRAIN_SECONDS", "5")
        if not environment.keys() & {*PROVIDER, *NARROW, "CHATKIT_MODEL"}:
            environment |= NARROW
        return environment | {
            "CHATKIT_BROKER_URL": self.redis_url,
            "CHATKIT_STATE_URL": self.redis_url,
            "CHATKIT_DATABASE_URL": f"sqlite+aiosqlite:///{self.folder.resolve() / 'chatkit.db'}",
            # on the loopback address, and for as long as the stack runs, Flower's API needs no password
            "FLOWER_UNAUTHENTICATED_API": "true",
            "PYTHONUNBUFFERED": "1",
        }


class Stack:
    """The children of one plan. Use `running`, which stops them whatever happens."""

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        """`tell` is given each line of progress."""
        self.plan, self._tell = plan, tell
        self._environment = plan.environment()
        self._children: list[Child] = []
        self._kills = KillRequests()
        self._deadline = 0.0
        self._interrupted = False

    @contextmanager
    def running(self) -> Iterator["Stack"]:
        """Start everything; stop it at the end, and on any error, Ctrl-C or SIGTERM.

        Raises:
            StackError: a port is taken, a part did not start in time or died.
        """
        previous = signal.signal(signal.SIGTERM, self._interrupt)
        signal.signal(signal.SIGINT, self._interrupt)
        try:
            self._start()
            yield self
        finally:
            # a second Ctrl-C must not leave half of the children behind; each wait below is bounded
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._stop()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, previous)

    def watch(self) -> None:
        """Watch until a part ends by itself: a worker that had been working is replaced, anything else is the end.

        Raises:
            StackError: the part and the end of its output.
        """
        while True:
            for child in list(self._children):
                if child.code is not None and _is_replaced(child):
                    self._tell(f"{child.name} ended ({child.code}); another takes its place, and its turns")
                    self._children.remove(child)
                    self._spawn_worker(child.name)
            self._check()
            self._kill(self._kills.wait(WATCH_SECONDS))

    def _kill(self, pids: Sequence[int]) -> None:
        """What the playground asks for. Of the stack's own children, and workers only."""
        for child in self._children:
            if child.pid in pids and child.name.startswith("worker"):
                self._tell(f"{child.name} is killed, as the playground asked")
                child.kill()

    def _start(self) -> None:
        plan = self.plan
        self._deadline = time.monotonic() + START_SECONDS
        for name, port, option in (("the gateway", plan.port, "--port"), ("Flower", plan.flower_port, "--flower-port")):
            if not is_free(port):
                raise StackError(f"port {port} for {name} is taken: choose another with {option}")
        (plan.folder / "logs").mkdir(parents=True, exist_ok=True)
        server = redis_command(plan.folder / "redis", plan.redis_port, keep=plan.keep)
        redis = self._spawn("redis", server.command)
        upgrade = self._spawn("database", self._own("db", "upgrade"))
        self._await(redis, lambda: answers_ping(plan.redis_port), f"{server.kind} on port {plan.redis_port}")
        self._await_end(upgrade)
        # Imports take most of the start, so the rest starts at once; none needs another one of these to be up.
        names = [f"worker-{number}" for number in range(1, plan.workers + 1)]
        workers = [self._spawn_worker(name) for name in names]
        asking = self._kills.asking
        serve = self._own("gateway", "--host", HOST, "--port", str(plan.port), "--kills", str(asking))
        gateway = self._spawn("gateway", serve, keep=[asking])
        flower = self._spawn("flower", self._own("flower", "--host", HOST, "--port", str(plan.flower_port)))
        for worker in workers:
            self._await(worker, lambda worker=worker: worker.said("ready"), "consuming")  # type: ignore[misc]  # bound above
        self._await(gateway, lambda: _answers(f"{plan.gateway_url}/readyz"), plan.gateway_url)
        self._await(flower, lambda: _answers(f"{plan.flower_url}/healthcheck"), plan.flower_url)
        self._check()

    def _own(self, *arguments: str) -> list[str]:
        # -P: a folder `workers` where the user happens to be is not ours
        return [sys.executable, "-P", "-m", "workers.cli", *arguments]

    def _spawn(self, name: str, command: Sequence[str], *, keep: Sequence[int] = ()) -> Child:
        child = Child(name, command, self._environment, self.plan.folder / "logs" / f"{name}.log", keep=keep)
        self._children.append(child)
        return child

    def _spawn_worker(self, name: str) -> Child:
        return self._spawn(name, self._own("worker", "-n", f"{name}@%h"))

    def _await(self, child: Child, ready: Callable[[], bool], what: str) -> None:
        if not wait_until(ready, deadline=self._deadline, alive=self._check):
            raise StackError(_story(f"{child.name} is not ready after {START_SECONDS:.0f} s", child))
        self._tell(f"  {child.name:<10} {what}")

    def _await_end(self, child: Child) -> None:
        """The database's upgrade ends by itself."""
        if not wait_until(lambda: child.code is not None, deadline=self._deadline, alive=lambda: None):
            raise StackError(_story(f"{child.name} is not ready after {START_SECONDS:.0f} s", child))
        self._children.remove(child)
        if child.code:
            raise StackError(_story(f"{child.name} failed with exit code {child.code}", child))
        self._tell(f"  {child.name:<10} {self.plan.folder / 'chatkit.db'}")

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupted = True
        raise KeyboardInterrupt

    def _check(self) -> None:
        if self._interrupted:  # the first one was raised in a hook of a fork, where Python only prints it
            raise KeyboardInterrupt
        for child in self._children:
            if child.code is not None and child.name != "database" and not _is_replaced(child):
                raise StackError(_story(f"{child.name} ended with exit code {child.code}", child))

    def _stop(self) -> None:
        """Gateway first: it stops taking events. Then the workers, which give back what they cannot finish; they
        need Redis for it, so Redis goes last. Flower watches the workers and goes after them."""
        for group in ("gateway", "worker", "database", "flower", "redis"):
            children = [child for child in self._children if child.name.startswith(group)]
            for child in children:
                child.ask_to_stop()
            for child in children:
                if not child.ensure_stopped(STOP_SECONDS.get(group, 5.0)):
                    self._tell(f"  {child.name} did not stop in time and was killed")
        self._children.clear()
        self._kills.close()


def _is_replaced(child: Child) -> bool:
    """Whether another one takes its place when it ends: a worker that had been working."""
    return child.name.startswith("worker") and child.said("ready")


def _story(what: str, child: Child) -> str:
    return "\n".join([f"{what}; its last lines ({child.log}):", *(f"  {line}" for line in child.last_lines())])


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  # our own http addresses
        return bool(answer.status == 200)
    return False
