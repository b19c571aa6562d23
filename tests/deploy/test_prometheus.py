"""Alerts and dashboards: PromQL that parses, metrics that there are, a section of the runbook for each alert."""

import re
import shutil
import subprocess

import pytest

from tests.conftest import leave_out
from tests.deploy.reading import (
    DEPLOY,
    Expression,
    alerts,
    catalogue,
    dashboards,
    documents,
    expressions,
    metrics_in,
    text_of,
)

EXPRESSIONS = expressions()
CATALOGUE = catalogue()
SEVERITIES = {"warning", "critical"}
LINK = "{{ $externalLabels.runbook }}#"


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
def test_an_expression_reads_only_metrics_and_labels_of_the_catalogue(expression: Expression) -> None:
    used = metrics_in(expression)
    assert used
    for one in used:
        assert one.name in CATALOGUE, f"{one.name} is in no catalogue"
        assert one.labels <= CATALOGUE[one.name], one


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
def test_what_every_gateway_tells_of_the_deployment_is_not_added_up(expression: Expression) -> None:
    own = {"chatkit_streams_open", "up"}
    added = re.findall(r"\bsum(?: by \([\w, ]*\))? ?\((?:rate\(|increase\()?([a-z]\w*)", expression.text)
    assert set(added) - {"max", "sum"} <= own


def test_a_wrong_metric_or_label_would_be_seen() -> None:
    [used] = metrics_in(Expression("here", "sum by (tenant) (rate(chatkit_nothing_total[5m]))"))
    assert (used.name, used.labels) == ("chatkit_nothing_total", frozenset({"tenant"}))
    assert used.name not in CATALOGUE
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        metrics_in(Expression("here", "sum(rate(chatkit_events_total[5m])"))


def test_every_metric_of_the_catalogue_is_on_some_dashboard() -> None:
    shown = {one.name for expression in EXPRESSIONS if ": " in expression.where for one in metrics_in(expression)}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in CATALOGUE} <= shown


def test_every_alert_has_a_severity_a_summary_and_its_section_of_the_runbook() -> None:
    headings = {heading.lower() for heading in re.findall(r"^## (Chatkit\w+)$", text_of("runbook.md"), re.MULTILINE)}
    linked = set()
    for rule in alerts():
        assert rule["labels"]["severity"] in SEVERITIES
        assert rule["annotations"]["summary"]
        link = rule["annotations"]["runbook_url"]
        assert link == LINK + rule["alert"].lower()
        linked.add(link.removeprefix(LINK))
    assert linked == headings, "an alert without a section, or a section without an alert"


def test_panels_have_titles_units_and_places_of_their_own() -> None:
    uids = [board["uid"] for _, board in dashboards()]
    assert len(set(uids)) == len(uids)
    for _, board in dashboards():
        places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
        assert len(set(places)) == len(places)
        for panel in board["panels"]:
            assert panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert all(target["legendFormat"] for target in panel["targets"])
            assert panel["datasource"]["uid"] in text_of("grafana/provisioning/datasources/prometheus.yaml")


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yaml"),
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("test", "rules", "alerts.test.yaml"),
    ],
    ids=" ".join,
)
def test_prometheus_takes_the_rules_and_each_alert_rings_and_is_silent_when_it_should(
    arguments: tuple[str, ...],
) -> None:
    if shutil.which("promtool") is None:
        leave_out("promtool (Debian's package `prometheus`)")
    checked = subprocess.run(
        ["promtool", *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_has_a_test_in_which_it_rings_and_one_in_which_it_does_not() -> None:
    [tests] = documents("prometheus/alerts.test.yaml")
    cases = [case for group in tests["tests"] for case in group["alert_rule_test"]]
    rings = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert rings == silent == {rule["alert"] for rule in alerts()}
