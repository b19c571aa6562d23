"""Records, recovery times and the report of some runs."""

import json
from pathlib import Path

from tests.unit.chaos.clean_run import SECOND, clean_run
from workers.chaos.checker.evidence import Evidence
from workers.chaos.checker.finding import Verdict
from workers.chaos.plan import FaultKind
from workers.chaos.records import Effect, Injected, ModelCall, Recorder, Remains, Setup, read
from workers.chaos.recovery import figures_of, recovery_seconds
from workers.chaos.report import Report, compared


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    records = clean_run().records
    recorder = Recorder(tmp_path)
    recorder.write(*records)
    recorder.close()
    found = read(tmp_path)
    assert len(found) == len(records)
    assert all(record in found for record in records)


def test_recovery_lasts_from_the_healing_to_the_next_sign_of_life_of_what_was_hit() -> None:
    run = Evidence(clean_run().records)
    hit = Injected(FaultKind.STATE_RESET, 15.05, None, "w2", hit=True)
    healed = Injected(FaultKind.STATE_LATENCY, 15.05, 15.25, "w2", hit=True)
    assert round(recovery_seconds(run, hit) or 0, 2) == 0.25
    assert round(recovery_seconds(run, healed) or 0, 2) == 0.75


def test_a_fault_hits_the_events_of_its_worker_and_the_one_that_it_names() -> None:
    run = Evidence(clean_run().records)
    assert recovery_seconds(run, Injected(FaultKind.STATE_RESET, 15.05, None, "w3", hit=True)) is None
    named = Injected(FaultKind.KILL_BEFORE_SETTLE, 15.05, None, "w3", hit=True, subject=SECOND)
    assert recovery_seconds(run, named) is not None


def test_figures_add_up_over_runs() -> None:
    run = Evidence(clean_run().records)
    figures = figures_of([run, run])
    assert (figures.events, figures.fenced, figures.takeovers) == (2 * len(run.cases), 4, 2)
    [kind] = figures.kinds
    assert (kind.kind, kind.injected, kind.hit) == (FaultKind.STOP, 2, 2)


def test_a_report_passes_only_if_nothing_failed_in_any_run() -> None:
    good, bad = clean_run(), clean_run().change(Setup, seed=2).change(Effect, key=None)
    assert Report.of([good.records]).passed
    report = Report.of([good.records, bad.records])
    assert not report.passed
    assert report.verdict(6) is Verdict.FAIL
    text = "\n".join(report.lines())
    assert "took effect 2 times" in text
    assert "SIGSTOP for two leases" in text
    assert json.loads(json.dumps(report.record()))["passed"] is False


def test_what_was_tested_in_one_run_was_tested() -> None:
    untested = clean_run().drop(Injected).change(Setup, seed=2)
    assert Report.of([clean_run().records, untested.records]).verdict(4) is Verdict.PASS


def test_deployment_kinds_are_compared_row_by_row() -> None:
    usual = clean_run().change(Setup, system="the usual way").change(Remains, kept={"messages": 3})
    rows = list(compared([Report.of([clean_run().records]), Report.of([usual.records])]))
    assert rows[1].startswith("tests")
    assert rows[1].count("pass") == 13
    assert (rows[2].count("pass"), rows[2].count("FAIL")) == (12, 1)


def test_a_call_of_nobody_hits_nothing() -> None:
    run = Evidence(clean_run().drop(ModelCall, lambda call: call.tag == "two").records)
    assert recovery_seconds(run, Injected(FaultKind.REDIS_KILL, 15.05, 15.1, "", hit=True)) is None
