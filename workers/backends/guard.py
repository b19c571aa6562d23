"""A backend with everything around it: who may call it, what fits, how long it may take, what is tried again."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import assert_never

from workers.backend_types import Backend as Declaration
from workers.backends.arguments import parsed
from workers.backends.circuit import Circuit
from workers.backends.ports import Answer, Backend, Caller, Describe, Failure, Fault, Result

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
PAUSE_SECONDS = 0.2
"""Before the second attempt; it doubles, and half of it is left to chance."""
LONGEST_RETRY_AFTER = 5.0
"""What a service may ask us to wait while a user looks on; more is told to the model."""

AWAY = "This service is away at the moment and was not called. Say so; do not call it again in this answer."
NOT_HERE = "This service is not available here. It was not called."


class GuardedBackend:
    """One tool of the agents. Everything that comes of a call is text for the model; it raises nothing.

    Args:
        name: of the tool.
        declaration: the bounds.
        describe: tells what it is for, and which arguments fit.
        backend: makes one attempt.
        circuit: shared by all tools of one service.
        sleep: for tests.
    """

    def __init__(
        self,
        name: str,
        declaration: Declaration,
        describe: Describe,
        backend: Backend,
        circuit: Circuit,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name, self.declaration = name, declaration
        self.describe = describe
        self._backend, self._circuit, self._sleep = backend, circuit, sleep

    async def call(self, arguments: str, caller: Caller) -> Answer:
        """Call it, if the tenant may and the arguments fit."""
        if not self.declaration.serves(caller.tenant):
            log.warning("backend_refused", extra={"backend": self.name, "event_id": caller.event_id})
            return Answer(NOT_HERE)
        if (described := await self.describe()) is None:
            return Answer(AWAY)
        if (problem := described.schema.problem(arguments)) is not None:
            return Answer(f"Not called. {problem}")
        began = time.monotonic()
        result, attempts = await self._tried(arguments, caller)
        outcome = "answered" if isinstance(result, Answer) else "away" if result is None else result.fault.value
        milliseconds = round((time.monotonic() - began) * 1000)
        fields = {"backend": self.name, "outcome": outcome, "milliseconds": milliseconds, "attempts": attempts}
        log.info("backend_called", extra={**fields, "event_id": caller.event_id})
        if isinstance(result, Answer):
            return result
        return Answer(AWAY if result is None else self._told(result))

    async def _tried(self, arguments: str, caller: Caller) -> tuple[Result | None, int]:
        """The result of the last attempt, and how many there were; None: the circuit is open."""
        result: Result | None = None
        for number in range(1, MAX_ATTEMPTS + 1):
            with self._circuit.attempt() as attempt:
                if attempt is None:
                    return result, number - 1
                result = await self._once(arguments, caller)
                attempt.failed = isinstance(result, Failure) and result.fault in (Fault.UNREACHED, Fault.UNANSWERED)
            pause = self._pause(result, number)
            if pause is None:
                return result, number
            await self._sleep(pause)
        return result, MAX_ATTEMPTS

    async def _once(self, arguments: str, caller: Caller) -> Result:
        try:
            async with asyncio.timeout(self.declaration.timeout):
                return await self._backend.call(parsed(arguments), caller)
        except TimeoutError:
            return Failure(Fault.UNANSWERED, f"no answer within {self.declaration.timeout:g} s")
        except Exception as error:
            # a fault of ours or of a library: the turn goes on without this service, and somebody is told
            log.exception("backend_failed", extra={"backend": self.name, "event_id": caller.event_id})
            return Failure(Fault.UNANSWERED, type(error).__name__)

    def _pause(self, result: Result, number: int) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        if isinstance(result, Answer) or number == MAX_ATTEMPTS:
            return None
        asked = result.retry_after_seconds
        if asked is not None and asked > LONGEST_RETRY_AFTER:
            return None
        jitter = PAUSE_SECONDS * 2 ** (number - 1) * (0.5 + random.random() / 2)  # noqa: S311  # jitter
        match result.fault:
            case Fault.BUSY:  # it said that it took nothing, so this repeats nothing
                return None if asked is None else asked + jitter
            case Fault.UNREACHED | Fault.UNANSWERED:
                return None if self.declaration.retry == "never" else max(asked or 0.0, jitter)
            case Fault.REFUSED | Fault.UNUSABLE:
                return None
            case _:
                assert_never(result.fault)

    def _told(self, failure: Failure) -> str:
        match failure.fault:
            case Fault.UNREACHED:
                return f"The service could not be reached ({failure.said}); nothing was done. Say so."
            case Fault.UNANSWERED if self.declaration.retry == "safe":
                return f"The service did not answer ({failure.said}). Nothing was changed. Say so."
            case Fault.UNANSWERED:
                return (
                    f"The service did not answer ({failure.said}): the call may or may not have taken effect. Tell the "
                    "user, and find out before it is made once more."
                )
            case Fault.BUSY:
                wait = failure.retry_after_seconds
                when = f"in {wait:.0f} s" if wait is not None else "later"
                return f"The service has too much to do and took nothing; it may be asked again {when}. Say so."
            case Fault.REFUSED:
                return f"The service refused the call: {failure.said}"
            case Fault.UNUSABLE:
                return f"The service answered, but its answer cannot be read ({failure.said}). Tell the user."
            case _:
                assert_never(failure.fault)
