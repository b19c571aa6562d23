"""Dead letter: the outermost net. Whatever nobody expected ends here, with its class and place, not its text."""

import traceback
from dataclasses import dataclass

from schemas.outcome import DeadLettered, DeadReason, ErrorRecord, Outcome
from workers.policies.compose import Handler
from workers.policies.delivery import Delivery


@dataclass(frozen=True, slots=True)
class DeadLetterPolicy:
    """Dead-letters an event whose run raised something that is none of our errors: a bug."""

    async def __call__(self, delivery: Delivery, call_next: Handler) -> Outcome:
        try:
            return await call_next(delivery)
        except Exception as error:  # noqa: BLE001  # this is the dead-letter net
            return DeadLettered(DeadReason.BUG, bug_record(error))


def bug_record(error: Exception) -> ErrorRecord:
    """The class of the error and where it was raised. Its text may hold a prompt, so it is left out."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename.rpartition('site-packages/')[2]}:{frames[-1].lineno}" if frames else "unknown place"
    return ErrorRecord(kind=type(error).__name__, message=f"at {place}")
