"""What the scripts of the limits must do, in plain Python: for one model, tenants and users with and without limits."""

import math
from dataclasses import dataclass, field

from workers.policies.rate_limit import Verdict

RPM, TPM, CONCURRENCY = 600, 120_000, 5
TENANT_RPM, USER_RPM = {"b": 240}, {"u": 120}
BURST_US = 500_000
GRANT_US, LEASE_US = 5_000_000, 30_000_000
TEXT_TOKENS = (10, 100, 400)
MEMORY, CUT, FLOOR, RISE_PER_SECOND = 0.1, 0.7, 0.05, 0.01
FAILURES, OPEN_MS, LONGEST_MS = 5, 5000, 60_000


def kept(value: float) -> float:
    """A number as the scripts keep it."""
    return float(f"{value:.6f}")


@dataclass
class Rate:
    """A GCRA: when its bucket is empty again (us)."""

    per_minute: float
    tat: float = 0

    def unit(self, factor: float = 1) -> float:
        return 60_000_000 / (self.per_minute * factor)

    def wait(self, now: int, cost: float, factor: float = 1) -> float:
        """How long `cost` units wait (us); negative: by how much they do not."""
        unit = self.unit(factor)
        burst = max(BURST_US, unit)
        return max(self.tat, now) - now + min(cost * unit, burst) - burst

    def spend(self, now: int, cost: float, factor: float = 1) -> float:
        amount = cost * self.unit(factor)
        self.tat = kept(max(self.tat, now) + amount)
        return amount

    def give_back(self, amount: float) -> None:
        self.tat = kept(self.tat - amount)


@dataclass
class Ticket:
    """An event in line, granted, or reserved. `paid` is what its rates were charged: model, tokens, tenant, user."""

    name: str
    number: int
    tokens: float
    expires_us: int = 0
    paid: tuple[float, float, float, float] = (0, 0, 0, 0)
    token: str = ""
    calls: int = 1
    charged: float = 0
    ready_ms: int = 0

    @property
    def tenant(self) -> str:
        return self.name[0]

    @property
    def user(self) -> str:
        return self.name[1]

    @property
    def text_tokens(self) -> int:
        return TEXT_TOKENS[int(self.name[2]) % len(TEXT_TOKENS)]


@dataclass
class LimitModel:
    """Everything that is decided of the limits but the order of tenants, which other tests are about."""

    now: int
    line: dict[str, Ticket] = field(default_factory=dict)
    granted: dict[str, Ticket] = field(default_factory=dict)
    held: dict[str, Ticket] = field(default_factory=dict)
    requests: Rate = field(default_factory=lambda: Rate(RPM))
    tokens: Rate = field(default_factory=lambda: Rate(TPM))
    tenants: dict[str, Rate] = field(default_factory=lambda: {t: Rate(rpm) for t, rpm in TENANT_RPM.items()})
    users: dict[str, Rate] = field(
        default_factory=lambda: {t + user: Rate(rpm) for t in "ab" for user, rpm in USER_RPM.items()}
    )
    seq: int = 0
    factor: float = 1
    factor_at: int = 0
    cut_at: int = 0
    hold: int = 0
    learned: float = 0
    fails: int = 0
    open_until: int = 0
    open_for: int = 0
    probe: str | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    """Of events that another queue goes on with."""
    exact: bool = True
    """Whether every number so far was a whole one: then there is no doubt at the very moment of a boundary."""

    @property
    def ms(self) -> int:
        return self.now // 1000

    @property
    def doubt_us(self) -> float:
        return 0 if self.exact else 300

    def look(self) -> None:
        """Whatever script runs, the ceiling has risen until then."""
        self.factor = kept(min(1, self.factor + RISE_PER_SECOND * max(0, self.ms - self.factor_at) / 1000))
        self.factor_at = self.ms

    def lives(self, ticket: Ticket) -> bool:
        return ticket.expires_us // 1000 > self.ms

    def after(self, term_us: int) -> int:
        return self.ms * 1000 + term_us

    @property
    def in_flight(self) -> int:
        return sum(self.lives(one) for one in (*self.granted.values(), *self.held.values()))

    @property
    def places(self) -> int:
        return max(1, math.floor(CONCURRENCY * self.factor))

    @property
    def circuit(self) -> str:
        if self.open_until == 0:
            return "closed"
        return "open" if self.ms < self.open_until else "half_open"

    def circuit_wait(self) -> float:
        """How long the circuit lets nothing through (us)."""
        if self.circuit != "half_open":
            return max(0, self.open_until - self.ms) * 1000
        running = {**self.granted, **self.held}.get(self.probe or "")
        return 1_000_000 if running is not None and self.lives(running) else 0

    def estimate(self, ticket: Ticket) -> int:
        return max(ticket.text_tokens, math.ceil(self.learned))

    def model_wait(self, tokens: float) -> float:
        """How long the model makes so many tokens wait (us); not above 0: it does not."""
        waits = [self.requests.wait(self.now, 1, self.factor), self.tokens.wait(self.now, tokens, self.factor)]
        blocked = max(self.circuit_wait(), (self.hold - self.ms) * 1000)
        full = 1000 if self.in_flight >= self.places else 0
        return max(*waits, blocked if blocked > 0 else -math.inf, full if full > 0 else -math.inf)

    def own_wait(self, ticket: Ticket) -> float:
        """How long the limits of its tenant and its user make it wait."""
        rates = (self.tenants.get(ticket.tenant), self.users.get(ticket.name[:2]))
        return max((rate.wait(self.now, 1) for rate in rates if rate is not None), default=-math.inf)

    def user_wait(self, ticket: Ticket) -> float:
        rate = self.users.get(ticket.name[:2])
        return rate.wait(self.now, 1) if rate is not None else -math.inf

    def new_ticket(self, name: str) -> Ticket:
        number = self.numbers.pop(name, None)
        if number is None:
            self.seq += 1
            number = self.seq
        ticket = Ticket(name, number, 0)
        ticket.tokens = self.estimate(ticket)
        return ticket

    def take(self, ticket: Ticket, term_us: int) -> None:
        """Charge everything, and give it a place in flight."""
        tenant, user = self.tenants.get(ticket.tenant), self.users.get(ticket.name[:2])
        if self.circuit == "half_open":
            self.probe = ticket.name
        ticket.paid = (
            self.requests.spend(self.now, 1, self.factor),
            self.tokens.spend(self.now, ticket.tokens, self.factor),
            tenant.spend(self.now, 1) if tenant else 0,
            user.spend(self.now, 1) if user else 0,
        )
        ticket.expires_us = self.after(term_us)

    def reserve(self, ticket: Ticket, token: str) -> None:
        """What was taken is a reservation now."""
        ticket.expires_us, ticket.token = self.after(LEASE_US), token
        ticket.calls, ticket.charged = 1, ticket.tokens
        self.held[ticket.name] = ticket

    def give_back_shares(self, ticket: Ticket) -> None:
        tenant, user = self.tenants.get(ticket.tenant), self.users.get(ticket.name[:2])
        if tenant:
            tenant.give_back(ticket.paid[2])
        if user:
            user.give_back(ticket.paid[3])

    def revoke(self, name: str) -> Ticket:
        """A grant is given back."""
        ticket = self.granted.pop(name)
        self.requests.give_back(ticket.paid[0])
        self.tokens.give_back(ticket.paid[1])
        self.give_back_shares(ticket)
        return ticket

    def take_over(self, ticket: Ticket, token: str) -> None:
        """Another worker goes on, with a call of its own."""
        self.charge(tokens := self.estimate(ticket))
        ticket.token, ticket.calls, ticket.charged, ticket.paid = token, 1, tokens, (0, 0, 0, 0)
        ticket.ready_ms, ticket.expires_us = 0, self.after(LEASE_US)

    def charge(self, tokens: float) -> None:
        self.requests.spend(self.now, 1, self.factor)
        self.tokens.spend(self.now, tokens, self.factor)

    def settle(self, name: str, verdict: Verdict, calls: int, measured: int, tokens: int, said_ms: int) -> None:
        ticket = self.held.pop(name)
        used = tokens + max(0, calls - measured) * ticket.charged / ticket.calls
        self.exact &= used == int(used)
        self.requests.give_back((ticket.calls - calls) * self.requests.unit(self.factor))
        self.tokens.give_back((ticket.charged - used) * self.tokens.unit(self.factor))
        if calls == 0 or verdict in ("rate_limited", "deferred", "handed_over"):
            self.give_back_shares(ticket)
        self.judge(ticket, verdict, said_ms)
        if verdict == "handed_over":
            self.numbers[name] = ticket.number
        if verdict in ("ok", "handed_over") and measured:
            value = tokens / measured
            self.learned = kept(value if self.learned == 0 else self.learned + MEMORY * (value - self.learned))
        if verdict in ("rate_limited", "deferred"):
            ticket.tokens = self.estimate(ticket)
            self.line[name] = ticket

    def judge(self, ticket: Ticket, verdict: Verdict, said_ms: int) -> None:
        """What a verdict does to the circuit and the ceiling."""
        probing, self.probe = self.probe == ticket.name, None if self.probe == ticket.name else self.probe
        if verdict in ("ok", "handed_over", "rate_limited"):
            self.fails = 0
            if probing:
                self.open_until = self.open_for = 0
        if verdict == "rate_limited":
            self.hold = max(self.hold, self.ms + (said_ms or 1000))
            if self.ms - self.cut_at >= 1000:
                self.factor, self.cut_at, self.exact = kept(max(FLOOR, self.factor * CUT)), self.ms, False
        elif verdict == "failed":
            self.fails += 1
            if probing:
                self.open_for = min(LONGEST_MS, max(OPEN_MS, self.open_for * 2))
                self.open_until = self.ms + self.open_for
            elif self.open_until == 0 and self.fails >= FAILURES:
                self.open_for, self.open_until = OPEN_MS, self.ms + OPEN_MS
