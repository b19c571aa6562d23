"""Invariants 5 and 12: the frames that clients see."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from workers.chaos.checker.evidence import Evidence
from workers.chaos.checker.finding import Finding
from workers.chaos.records import CancelAnswer, Frame
from workers.chaos.screen import is_text


def frame_ids(evidence: Evidence) -> Finding:
    """5. Frame ids strictly increase and have no gap, for any pattern of reconnects."""
    violations: list[str] = []
    count = 0
    for (event_id, client), frames in evidence.frames.items():
        count += len(frames)
        lives = 2 if evidence.redriven(event_id) else 1
        violations += [f"{evidence.name(event_id)}: {client} {fault}" for fault in _id_faults(frames, lives)]
    looked_at = f"{count} frames at {len(evidence.frames)} clients"
    return Finding(5, "frame ids strictly increase, without a gap", looked_at, violations, count > 0)


def _id_faults(frames: Sequence[Frame], lives: int) -> Iterator[str]:
    """The first fault of a client's frames. Between two lives of an event there is the end of the first."""
    ids = [frame.id for frame in frames if frame.id is not None]
    if not ids:
        if any(is_text(frame.data) for frame in frames):
            yield "was given text without an id"
        return
    last, skips = numbers_of(ids[0])[1] - 1, lives - 1
    if last:
        yield f"began at {ids[0]}"
    for before, after in pairwise(ids):
        (acceptance, number), (same, next_number) = numbers_of(before), numbers_of(after)
        gap = next_number - number - 1
        if same != acceptance or gap < 0:
            yield f"was given {after} after {before}"
            return
        if gap > 0:
            skips -= gap
            if skips < 0:
                yield f"was given {after} after {before}: {gap} are missing"
                return


def numbers_of(frame_id: str | None) -> tuple[int, int]:
    """Acceptance and frame number; before the first frame they are 0."""
    acceptance, _, number = (frame_id or "0-0").partition("-")
    return int(acceptance), int(number)


def silent_after_cancel(evidence: Evidence) -> Finding:
    """12. After a cancel is acknowledged no more text appears."""
    accepted = [cancel for cancel in evidence.cancels if cancel.status == 202]
    violations = [fault for cancel in accepted for fault in _text_after(evidence, cancel)]
    looked_at = f"{len(accepted)} cancels that were in time"
    return Finding(12, "no text after an acknowledged cancel", looked_at, violations, bool(accepted))


def _text_after(evidence: Evidence, cancel: CancelAnswer) -> Iterator[str]:
    """Text that follows the last frame that was there when the cancel had been answered."""
    _, last = numbers_of(cancel.last_frame_id)
    for client in evidence.clients.get(cancel.event_id, ()):
        for frame in evidence.frames.get((cancel.event_id, client), ()):
            late = numbers_of(frame.id)[1] > last if frame.id else frame.at > cancel.answered_at + 1
            if late and is_text(frame.data):
                yield f"{evidence.name(cancel.event_id)}: {client} was given text in {frame.id}, after {last}"
                break
