"""What the checker says of one invariant."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SHOWN = 5


class Verdict(StrEnum):
    """`not tested`: the run gave no occasion."""

    PASS = "PASS"  # noqa: S105  # no secret
    FAIL = "FAIL"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant: what was looked at, and what contradicts it."""

    number: int
    invariant: str
    looked_at: str
    violations: Sequence[str]
    tested: bool = True

    @property
    def verdict(self) -> Verdict:
        if self.violations:
            return Verdict.FAIL
        return Verdict.PASS if self.tested else Verdict.NOT_TESTED

    def lines(self) -> list[str]:
        """As it is printed."""
        shown = [f"      {violation}" for violation in self.violations[:SHOWN]]
        if len(self.violations) > SHOWN:
            shown.append(f"      … and {len(self.violations) - SHOWN} more")
        return [f"{self.verdict:<10}  {self.number:>2}  {self.invariant}: {self.looked_at}", *shown]
