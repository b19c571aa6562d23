"""What goes into the lanes and what comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from schemas.outcome import CancelReason, EventState, Outcome, ParkReason
from schemas.records import DeadLetter
from workers.policies.delivery import Lease, Waited

RefusedReason = Literal["lane_full", "system_full", "busy"]
NotBegunReason = Literal["unknown", "ended", "not_head", "leased", "not_due", "paused"]
AppendRefusedReason = Literal["stale", "cancelled", "gap", "ended"]
RenewResult = Literal["held", "lost"] | CancelReason
"""A reason: held, and the event is to be stopped."""

RouseResult = Literal["wake", "coming", "gone"]
"""`coming`: it runs, or is about to. `gone`: it has ended, is paused, or waits for something else."""

CancelResult = Literal["cancelled", "cancelling", "ended", "unknown"]
"""`cancelled`: it waited and has ended. `cancelling`: from now on it shows no more text, and a worker ends it."""


FIRST_GRACE = timedelta(seconds=2)
"""How long a wake-up has to be taken up before the lane's alarm sends another; doubles with each."""

LAST_GRACE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Wake:
    """The head of a lane that some worker should begin. Waking twice, or in vain, is harmless."""

    lane: str
    event_id: str
    type: str
    queue: str


@dataclass(frozen=True, slots=True)
class Seat:
    """Wish to let the head of a lane wait for a limit, before a worker has looked at it."""

    lane: str
    event_id: str
    delay: timedelta
    reason: ParkReason


@dataclass(frozen=True, slots=True)
class Accepted:
    """The event is kept. A duplicate has the number, the lane and the state of the first acceptance."""

    event_id: str
    lane: str
    acceptance: int
    state: EventState
    duplicate: bool
    wake: Wake | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The event is not kept: its lane or the whole system is full, or it asked to be rejected and `by` is not done."""

    event_id: str
    lane: str
    reason: RefusedReason
    retry_after_seconds: float
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Wish to begin an event. `token` names the delivery: the same token gets the same answer."""

    lane: str
    event_id: str
    token: str
    want_body: bool = True


@dataclass(frozen=True, slots=True)
class Begun:
    """The event is leased to this worker. `deaths` counts this run too, until it comes to an answer.

    `cancelled` says on whose wish it is only to be ended; `journaled`, that a run of it has completed steps;
    `redriven`, that it had been given up before; `queue`, what wakes it now; `hops`, how often a handoff changed that.
    `age_seconds` is since its acceptance; `waited` is None when it did not wait, but was taken over from a worker that
    died.
    """

    lease: Lease
    body: str | None
    attempt: int
    deaths: int
    acceptance: int
    next_frame: int
    accepted_at: datetime
    cancelled: CancelReason | None
    journaled: bool
    redriven: bool = False
    queue: str = ""
    hops: int = 0
    age_seconds: float = field(default=0.0, compare=False)
    waited: Waited | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class NotBegun:
    """Nothing to do now."""

    why: NotBegunReason


@dataclass(frozen=True, slots=True)
class JournalStep:
    """A completed step of an event, for its journal. `entry` is whatever its reader makes of it."""

    name: str
    entry: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """Frames to show, each the JSON of one `ThreadStreamEvent`; `first` is the number of the first of them. `step` is
    complete once they are shown."""

    lease: Lease
    first: int
    frames: Sequence[bytes]
    step: JournalStep | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """All frames are in the stream, and the step is in the journal, unless that is full."""

    next_frame: int
    journal_full: bool = False


@dataclass(frozen=True, slots=True)
class AppendRefused:
    """None of the frames that were new is in the stream; `next_frame` tells how many there are."""

    why: AppendRefusedReason
    next_frame: int


@dataclass(frozen=True, slots=True)
class Joined:
    """The messages that have joined a step of a turn, by the names of their entries in its journal."""

    entries: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class JoinRefused:
    """Nothing joins: another worker has the turn, or it is to be stopped."""

    why: Literal["stale", "cancelled"]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What came of a run. `delay` counts for what waits, `dead` goes with a dead letter, `final_frames` with an end."""

    lease: Lease
    outcome: Outcome
    delay: timedelta = timedelta(0)
    dead: DeadLetter | None = None
    final_frames: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome took effect; `state` is `cancelled` whatever the outcome, if the user had stopped the event."""

    state: EventState
    wake: Wake | None


@dataclass(frozen=True, slots=True)
class SettleRefused:
    """Another worker has the event, or has ended it (`stale`); or what it stored is to be taken back (`rollback`)."""

    why: Literal["stale", "rollback"] = "stale"


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Answer to a cancel, and the lane to wake: the next head, or the event itself where a worker has to end it."""

    result: CancelResult
    wake: Wake | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom an event, a thread or an attachment belongs to. Nobody else gets to know that it exists."""

    tenant: str
    user: str


@dataclass(frozen=True, slots=True)
class Depth:
    """What all shards hold. `lanes` have work; `dropped` and `dead` count what ever ended so, by reason, and `fenced`
    the writes of stale workers that were refused, by kind (`frames`, `journal`, `settle`, `store`, `limits`). `ended`
    counts what ever ended, by type and state, `retried` attempts that are repeated, by reason, `frames` all in streams.
    `ready` lanes have a head that needs nothing but a worker (it is not paused, and waits for no limit and no retry),
    the first of them for `ready_age_seconds`.
    """

    states: Mapping[EventState, int]
    oldest_age_seconds: float
    lanes: int
    dropped: Mapping[str, int]
    dead: Mapping[str, int]
    dead_kept: int
    fenced_writes: int
    fenced: Mapping[str, int]
    ended: Mapping[tuple[str, EventState], int]
    retried: Mapping[str, int]
    frames: int
    ready: int
    ready_age_seconds: float

    @property
    def leases(self) -> int:
        return self.states[EventState.RUNNING]
