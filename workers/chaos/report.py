"""What a user is shown after some runs: a verdict on each invariant with its evidence, and the table of faults."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workers.chaos.checker import Finding, Verdict, check
from workers.chaos.checker.evidence import Evidence
from workers.chaos.records import Record
from workers.chaos.recovery import Figures, figures_of

MARKS = {Verdict.PASS: "pass", Verdict.FAIL: "FAIL", Verdict.NOT_TESTED: "-"}


@dataclass(frozen=True, slots=True)
class Report:
    """The runs of one deployment kind: findings by seed, and what all of them add up to."""

    system: str
    findings: Mapping[int, Sequence[Finding]]
    figures: Figures

    @classmethod
    def of(cls, runs: Sequence[Sequence[Record]]) -> "Report":
        """Check runs."""
        evidence = [Evidence(records) for records in runs]
        findings = {one.setup.seed: check(one.records) for one in evidence}
        return cls(evidence[0].setup.system, findings, figures_of(evidence))

    @property
    def passed(self) -> bool:
        return all(finding.verdict is not Verdict.FAIL for found in self.findings.values() for finding in found)

    def verdict(self, number: int) -> Verdict:
        """Of one invariant, over all runs."""
        verdicts = {
            finding.verdict for found in self.findings.values() for finding in found if finding.number == number
        }
        return next(one for one in (Verdict.FAIL, Verdict.PASS, Verdict.NOT_TESTED) if one in verdicts)

    def lines(self) -> Iterator[str]:
        """For people."""
        for seed, found in self.findings.items():
            yield f"{self.system}, seed {seed}"
            for finding in found:
                yield from (f"  {line}" for line in finding.lines())
            yield ""
        yield from self._table()

    def _table(self) -> Iterator[str]:
        figures = self.figures
        yield f"{'fault':<42}{'injected':>10}{'took effect':>13}{'worst recovery':>17}"
        for kind in figures.kinds:
            worst = "-" if kind.worst_seconds is None else f"{kind.worst_seconds:.1f} s"
            yield f"{kind.kind:<42}{kind.injected:>10}{kind.hit:>13}{worst:>17}"
        yield ""
        yield (
            f"{figures.events} events, {figures.model_calls} model calls, {figures.takeovers} takeovers, "
            f"{figures.fenced} stale writes refused, {figures.lost} acknowledged events lost"
        )

    def record(self) -> dict[str, Any]:
        """For programs."""
        return {
            "system": self.system,
            "passed": self.passed,
            "seeds": {
                seed: [
                    {
                        "number": finding.number,
                        "invariant": finding.invariant,
                        "verdict": finding.verdict,
                        "looked_at": finding.looked_at,
                        "violations": list(finding.violations),
                    }
                    for finding in found
                ]
                for seed, found in self.findings.items()
            },
            "figures": asdict(self.figures),
        }


def compared(reports: Sequence[Report]) -> Iterator[str]:
    """A row for each deployment kind: every invariant over all seeds, and what was lost."""
    invariants = [(finding.number, finding.invariant) for finding in next(iter(reports[0].findings.values()))]
    width = max(len(report.system) for report in reports) + 2
    heads = "".join(f"{number:>6}" for number, _ in invariants)
    yield f"{'':<{width}}{heads}{'lost':>8}{'worst recovery':>17}"
    for report in reports:
        marks = "".join(f"{MARKS[report.verdict(number)]:>6}" for number, _ in invariants)
        worst = max((kind.worst_seconds or 0.0 for kind in report.figures.kinds), default=0.0)
        yield f"{report.system:<{width}}{marks}{report.figures.lost:>8}{f'{worst:.1f} s':>17}"
    yield ""
    yield from (f"{number:>3}  {invariant}" for number, invariant in invariants)
