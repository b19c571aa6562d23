"""Which model an event is for, and what it needs of it."""

from dataclasses import dataclass

from schemas.events import Event
from workers.allow_lists import options_of
from workers.limits.limiter import Ask

CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a deployment.

    Args:
        default: for events that ask for none.
        fallback: while the circuit of the one that is meant is open.
        others: those that a message may ask for.
    """

    default: str
    fallback: str | None = None
    others: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """Every one that a turn may run with."""
        return frozenset(filter(None, (self.default, self.fallback, *self.others)))

    def ask_of(self, event: Event, lane: str, queue: str, *, again: bool = False) -> Ask:
        """What a run of an event needs; `again`: an attempt has failed. Its data is an estimate of what it costs: what
        the history costs is learned."""
        wanted = options_of(event).get("model")
        model = wanted if wanted in self.others else self.default
        fallback = self.fallback if self.fallback != model else None
        return Ask(event, lane, queue, model, fallback, len(str(event.data)) // CHARACTERS_PER_TOKEN, again)
