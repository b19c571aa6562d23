"""The records of a run, in the order in which the checks ask for them."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from workers.chaos.records import (
    CancelAnswer,
    Case,
    Effect,
    Ended,
    Frame,
    Injected,
    Left,
    Letter,
    ModelCall,
    ProcessNews,
    Publication,
    Record,
    Redrive,
    Remains,
    Setup,
    Status,
    Stored,
)

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Evidence:
    """All records of one run. Every sequence is in the order of time."""

    records: Sequence[Record]

    def all(self, kind: type[T]) -> list[T]:
        """The records of a kind."""
        found = [record for record in self.records if isinstance(record, kind)]
        return sorted(found, key=lambda record: getattr(record, "at", 0.0))

    @cached_property
    def setup(self) -> Setup:
        return self.all(Setup)[0]

    @cached_property
    def cases(self) -> Mapping[str, Case]:
        """By event id."""
        return {case.event_id: case for case in self.all(Case)}

    @cached_property
    def by_tag(self) -> Mapping[str, Case]:
        return {case.tag: case for case in self.cases.values()}

    @cached_property
    def publications(self) -> Mapping[str, Sequence[Publication]]:
        """By event id."""
        return _grouped((record.event_id, record) for record in self.all(Publication))

    @cached_property
    def acknowledged(self) -> Sequence[Case]:
        """The cases whose publisher was told that they are kept."""
        told = {event_id for event_id, answers in self.publications.items() if any(one.acknowledged for one in answers)}
        return [case for event_id, case in self.cases.items() if event_id in told]

    @cached_property
    def frames(self) -> Mapping[tuple[str, str], Sequence[Frame]]:
        """By event and client. A client writes its frames one after another, so their order is that of the file."""
        frames = [record for record in self.records if isinstance(record, Frame)]
        return _grouped(((frame.event_id, frame.client), frame) for frame in frames)

    @cached_property
    def ends(self) -> Mapping[tuple[str, str], Sequence[Ended]]:
        """By event and client."""
        return _grouped(((record.event_id, record.client), record) for record in self.all(Ended))

    @cached_property
    def clients(self) -> Mapping[str, Sequence[str]]:
        """The clients of each event."""
        names = _grouped((event_id, client) for event_id, client in [*self.frames, *self.ends])
        return {event_id: list(dict.fromkeys(clients)) for event_id, clients in names.items()}

    @cached_property
    def calls(self) -> Mapping[str, Sequence[ModelCall]]:
        """By tag."""
        return _grouped((record.tag, record) for record in self.all(ModelCall))

    @cached_property
    def effects(self) -> Mapping[str, Sequence[Effect]]:
        """By the call that was meant."""
        return _grouped((record.call, record) for record in self.all(Effect))

    @cached_property
    def statuses(self) -> Mapping[str, Status]:
        """By event id."""
        return {record.event_id: record for record in self.all(Status)}

    @cached_property
    def stored(self) -> Mapping[str, Stored]:
        """By thread id."""
        return {record.thread_id: record for record in self.all(Stored)}

    @cached_property
    def injected(self) -> Sequence[Injected]:
        return self.all(Injected)

    @cached_property
    def processes(self) -> Sequence[ProcessNews]:
        return self.all(ProcessNews)

    @cached_property
    def cancels(self) -> Sequence[CancelAnswer]:
        return self.all(CancelAnswer)

    @cached_property
    def letters(self) -> Mapping[str, Letter]:
        return {record.event_id: record for record in self.all(Letter)}

    @cached_property
    def redrives(self) -> Mapping[str, Redrive]:
        return {record.event_id: record for record in self.all(Redrive)}

    @cached_property
    def left(self) -> frozenset[tuple[str, str]]:
        """Event and client of those that did not see all."""
        return frozenset((record.event_id, record.client) for record in self.all(Left))

    @cached_property
    def remains(self) -> Remains:
        return self.all(Remains)[0]

    def name(self, event_id: str) -> str:
        """An event as the evidence names it."""
        case = self.cases.get(event_id)
        return f"{case.tag} ({event_id})" if case else event_id

    def redriven(self, event_id: str) -> bool:
        """Whether the event had a second life."""
        redrive = self.redrives.get(event_id)
        return redrive is not None and redrive.status == 202


def _grouped(pairs: Iterable[tuple[K, T]]) -> Mapping[K, Sequence[T]]:
    groups: dict[K, list[T]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups
