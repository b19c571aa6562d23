"""The model behind a run: a fake provider that records every call and fails when the plan says so."""

import re
import threading
import time
from collections import deque
from types import TracebackType
from typing import Literal, Self

from workers.chaos.records import ModelCall, Recorder
from workers.chaos.story import CaseText, answer, history_of
from workers.testing.provider import Asked, FakeProvider, ProviderCall
from workers.testing.provider_steps import Status, Step, Text, Tool
from workers.testing.provider_wire import Json

DELAY_SECONDS = 0.02
"""Before each word: some turns are under way at any time."""

WORKER = re.compile(r"^/(?P<worker>[^/]+)/v1/")


class ModelServer:
    """One provider for all workers; each has a path of its own, which is how its calls are told apart."""

    def __init__(self, recorder: Recorder, *, delay_seconds: float = DELAY_SECONDS) -> None:
        self._recorder = recorder
        self._lock = threading.Lock()
        self._faults: deque[Step] = deque()
        self._began: dict[int, float] = {}
        self._provider = FakeProvider(self._answer, delay_seconds=delay_seconds, watch=self._note)
        self.mended = False
        """From now on flaws are answered."""

    def __enter__(self) -> Self:
        self._provider.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._provider.__exit__(kind, error, trace)

    @property
    def port(self) -> int:
        return self._provider.port

    def fail(self, *steps: Step) -> None:
        """The next calls end like this."""
        with self._lock:
            self._faults.extend(steps)

    def forgive(self) -> int:
        """Fail no more; how many failures were not used."""
        with self._lock:
            left = len(self._faults)
            self._faults.clear()
            return left

    def calls_of(self, tag: str) -> list[ProviderCall]:
        """The calls of one case so far."""
        return [call for call in list(self._provider.calls) if tag_of(call.body) == tag]

    def busy(self, worker: str) -> list[str]:
        """Tags of the cases that a worker has a call open for."""
        with self._lock:
            calls = [call for call in list(self._provider.calls) if id(call) in self._began]
        return [tag_of(call.body) for call in calls if worker_of(call) == worker]

    def _answer(self, body: Json) -> Step:
        with self._lock:
            if self._faults:
                return self._faults.popleft()
        return answer(body, self.mended)

    def _note(self, call: ProviderCall, what: Literal["began", "ended"]) -> None:
        """On the provider's thread."""
        if what == "began":
            with self._lock:
                self._began[id(call)] = time.time()
            return
        with self._lock:
            began = self._began.pop(id(call))
            self._recorder.write(
                ModelCall(
                    tag=tag_of(call.body),
                    worker=worker_of(call),
                    at=began,
                    ended_at=time.time(),
                    step=type(call.step).__name__,
                    fault=not isinstance(call.step, Text | Tool),
                    history=tuple(history_of(call.body)),
                )
            )


def tag_of(body: Json) -> str:
    """Which case a request is about."""
    case = CaseText.of(Asked.of(body).text)
    return case.tag if case else ""


def worker_of(call: ProviderCall) -> str:
    """Whose call it is."""
    found = WORKER.match(call.path)
    return found["worker"] if found else ""


REFUSED = Status(429, code="rate_limit_exceeded", headers={"retry-after-ms": "300"})
BROKEN = Status(500, code="server_error")
