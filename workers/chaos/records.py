"""What a run of the chaos suite records: the only thing that the checker gets to see. Times are seconds since 1970."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from pydantic import TypeAdapter

Told = Literal["new", "duplicate", "confirmed", "refused", "unknown"]
"""Answer to a publication. `confirmed`: by the queue, which does not say whether it is new. `unknown`: no answer."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The deployment and its limits. `fsync` is Redis' `appendfsync`."""

    system: str
    seed: int
    lease_seconds: float
    fsync: str
    rpm: float | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """An event of the run. `reference` is the whole answer; None: it has none."""

    event_id: str
    tag: str
    tenant: str
    user: str
    thread_id: str | None
    reference: str | None
    trace_id: str | None = None
    phase: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """One publication of an event, and what its publisher was told."""

    event_id: str
    at: float
    answered_at: float
    way: Literal["http", "queue"]
    told: Told
    thread_id: str | None = None

    @property
    def acknowledged(self) -> bool:
        return self.told in ("new", "duplicate", "confirmed")


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the conversation as the model was given it."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A call as the provider saw it. `tag` names the event by what its user wrote; `fault`: it was made to fail."""

    tag: str
    worker: str
    at: float
    ended_at: float
    step: str
    fault: bool
    history: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """A tool was called. It honours its `key`: a second call with the same one takes no effect; one without does."""

    call: str
    key: str | None
    worker: str
    at: float


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that a client was given; `id` is missing from what is shown in passing."""

    client: str
    event_id: str
    at: float
    id: str | None
    data: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A client was told how an event ended."""

    client: str
    event_id: str
    at: float
    state: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Left:
    """A client gave up, or was meant to leave: what it saw is not all."""

    client: str
    event_id: str
    at: float
    meant: bool


@dataclass(frozen=True, slots=True)
class ProcessNews:
    """A process was started, became ready, was signalled, ended."""

    name: str
    pid: int
    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault. `healed_at` is None for what has no end of its own; `hit`: it took effect."""

    kind: str
    at: float
    healed_at: float | None
    target: str
    hit: bool
    subject: str = ""


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """A cancel, and where the event's stream stood once it had been acknowledged."""

    event_id: str
    at: float
    answered_at: float
    status: int
    last_frame_id: str | None


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as an operator finds it."""

    event_id: str
    at: float
    reason: str
    attempts: int
    trace_id: str | None
    body_tag: str | None


@dataclass(frozen=True, slots=True)
class Redrive:
    """A dead letter was redriven, and redriven again: HTTP statuses. `ended`: the event had ended well before."""

    event_id: str
    at: float
    status: int
    again: int


@dataclass(frozen=True, slots=True)
class Status:
    """An event as the deployment has it after the run. Times are those of its own clock."""

    event_id: str
    state: str
    reason: str | None
    acceptance: int | None
    accepted_at: float | None
    started_at: float | None
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Stored:
    """A thread's messages as the store has them, oldest first."""

    thread_id: str
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left after the run: of `kept`, which names what there should be none of, only zeros. `fenced` counts the
    writes that were refused, `why` says what did not come to rest in time."""

    at: float
    kept: dict[str, int]
    fenced: int
    why: str = ""


Record = (
    Setup
    | Case
    | Publication
    | ModelCall
    | Effect
    | Frame
    | Ended
    | Left
    | ProcessNews
    | Injected
    | CancelAnswer
    | Letter
    | Redrive
    | Status
    | Stored
    | Remains
)
KINDS: dict[str, type[Record]] = {kind.__name__: kind for kind in Record.__args__}


class Sink(Protocol):
    """Takes records."""

    def write(self, *records: Record) -> None: ...


@dataclass(slots=True)
class Recorder:
    """Writes records as JSON lines, one file per kind, and forgets them."""

    folder: Path
    _files: dict[str, TextIO] = field(default_factory=dict)

    def write(self, *records: Record) -> None:
        """Append records."""
        for record in records:
            name = type(record).__name__
            if name not in self._files:
                self._files[name] = (self.folder / f"{name}.jsonl").open("a", encoding="utf-8")
            self._files[name].write(line_of(record))

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def line_of(record: Record) -> str:
    """A record as one line."""
    return json.dumps({"record": type(record).__name__, **asdict(record)}, ensure_ascii=False) + "\n"


def read(folder: Path) -> list[Record]:
    """All records of a folder."""
    texts = [file.read_text("utf-8") for file in sorted(folder.glob("*.jsonl"))]
    return [record for text in texts for record in parse_lines(text.splitlines())]


def parse_lines(lines: Iterable[str]) -> Iterator[Record]:
    """The records of lines."""
    adapters: dict[str, TypeAdapter[Record]] = {}
    for line in lines:
        fields: dict[str, Any] = json.loads(line)
        name = fields.pop("record")
        if name not in adapters:
            adapters[name] = TypeAdapter(KINDS[name])
        yield adapters[name].validate_python(fields)
