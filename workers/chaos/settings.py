"""What a run is made of: the numbers that a user chooses, and those that follow from them."""

import json
from dataclasses import dataclass
from typing import Literal

Fsync = Literal["always", "everysec"]

SERVICE_KEY = "a-service-key-of-the-chaos-suite"
SECRET_KEY = "a-secret-key-of-the-chaos-suite-0123456789"  # noqa: S105  # of a deployment that lives for a minute
TENANT = "chaos"
RPM = 1200.0
CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class RunSettings:
    """One run."""

    seed: int
    seconds: float
    lease_seconds: float = 1.0
    fsync: Fsync = "always"
    workers: int = 3
    gateways: int = 2
    flood: bool = False
    """Begin with a flood of another tenant, before any fault."""

    @property
    def turn_seconds(self) -> float:
        """After which a turn that hears nothing from its provider is tried again."""
        return max(6.0, 4 * self.lease_seconds)

    @property
    def quiet_seconds(self) -> float:
        """How long everything may take to come to rest after the last fault."""
        return 25.0 + 5 * self.lease_seconds

    @property
    def limits(self) -> str:
        return json.dumps({"models": {"*": {"rpm": RPM, "concurrency": CONCURRENCY}}})
