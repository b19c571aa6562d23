"""What the suite asks of a deployment kind: ours, or the usual way. The parts around it are the same for both."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.chaos.order import Order
from workers.chaos.records import Case, Record


@dataclass(frozen=True, slots=True)
class Places:
    """Where one process finds its neighbours; each has proxies of its own."""

    state_url: str
    provider_url: str
    folder: Path

    @property
    def records(self) -> Path:
        return self.folder / "records"

    @property
    def fail_points(self) -> Path:
        return self.folder / "failpoints"


@dataclass(frozen=True, slots=True)
class Rest:
    """How far from rest a deployment is: events that have not ended, and why it is not quiet yet."""

    unfinished: Sequence[str]
    why: str

    @property
    def reached(self) -> bool:
        return not self.unfinished and not self.why


class System(Protocol):
    """A kind of deployment."""

    name: str
    has_queue: bool
    """Whether publishers can reach it over Redis, too."""
    preload: Sequence[str]
    """Modules that its processes need."""

    async def prepare(self) -> None:
        """Make what its processes expect to find."""

    def worker(self, name: str, places: Places) -> Order:
        """A worker; it writes the line `ready` when it does its work."""
        ...

    def gateway(self, name: str, port: int, places: Places) -> Order:
        """An HTTP server with the paths of `/v1/events` and `/readyz`."""
        ...

    async def rest(self, event_ids: Collection[str]) -> Rest:
        """Whether these have ended, and nothing else goes on."""
        ...

    def look_again(self, event_id: str) -> None:
        """An event that had ended was given another life."""

    async def snapshot(self, cases: Mapping[str, Case], why: str) -> Sequence[Record]:
        """What it holds at the end; `why` it is not at rest, if it is not."""
        ...

    async def close(self) -> None:
        """Let go of its connections."""
