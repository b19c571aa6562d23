"""What a provider allows: requests and tokens per minute as token buckets with a burst of one second."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

BURST_SECONDS = 1.0


@dataclass
class Bucket:
    """Holds up to a burst, refills at its rate (per minute)."""

    per_minute: float
    level: float = field(init=False)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.level, self.at = self.burst, time.monotonic()

    @property
    def burst(self) -> float:
        return self.per_minute / 60 * BURST_SECONDS

    def refill(self, now: float) -> None:
        self.level = min(self.burst, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now

    def wait(self, cost: float) -> float:
        """Seconds until `cost` is there."""
        return max(0.0, (cost - self.level) * 60 / self.per_minute)


@dataclass
class ProviderLimits:
    """Refuses with 429 what is over either limit; a refused request costs nothing."""

    rpm: float
    tpm: float
    tokens_per_request: int = 120
    clock: Callable[[], float] = time.monotonic
    accepted: list[float] = field(default_factory=list)
    refused: int = 0

    def __post_init__(self) -> None:
        self.requests, self.tokens = Bucket(self.rpm), Bucket(self.tpm)

    def take(self) -> float:
        """0 when the request is accepted, else the seconds after which it may be."""
        now = self.clock()
        self.requests.refill(now)
        self.tokens.refill(now)
        wait = max(self.requests.wait(1), self.tokens.wait(self.tokens_per_request))
        if wait > 0:
            self.refused += 1
            return wait
        self.requests.level -= 1
        self.tokens.level -= self.tokens_per_request
        self.accepted.append(now)
        return 0.0

    def headers(self) -> dict[str, str]:
        """What a provider tells of its buckets."""
        return {
            "x-ratelimit-limit-requests": str(int(self.rpm)),
            "x-ratelimit-limit-tokens": str(int(self.tpm)),
            "x-ratelimit-remaining-requests": str(int(self.requests.level)),
            "x-ratelimit-remaining-tokens": str(int(self.tokens.level)),
            "x-ratelimit-reset-requests": f"{self.requests.wait(self.requests.burst):.3f}s",
            "x-ratelimit-reset-tokens": f"{self.tokens.wait(self.tokens.burst):.3f}s",
        }
