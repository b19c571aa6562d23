"""The checker: pure functions from the records of a run to a verdict on each invariant, with the evidence."""

from workers.chaos.checker.check import check
from workers.chaos.checker.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "check"]
