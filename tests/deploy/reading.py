"""Reading deploy/: documents, settings, commands, PromQL."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from workers.settings import Settings, load_settings, variable_of
from workers.telemetry.metrics import PREFIX, Metrics

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
VARIABLES = frozenset(variable_of(field) for field in Settings.model_fields)
SUFFIXES = ("_bucket", "_count", "_sum")
SCRAPED = {"up": {"job", "instance"}}
"""What Prometheus itself says of a scrape."""


def text_of(path: str) -> str:
    return (DEPLOY / path).read_text(encoding="utf-8")


def documents(path: str) -> list[Any]:
    """The documents of a YAML file."""
    return [found for found in yaml.safe_load_all(text_of(path)) if found is not None]


def example(path: str) -> dict[str, str]:
    """The variables of an example of an environment; those that are left open are filled in."""
    lines = [line for line in text_of(path).splitlines() if line and not line.startswith("#")]
    pairs = dict(line.split("=", 1) for line in lines)
    return {name: value.strip("'") or "filled-in" for name, value in pairs.items()}


def settings_of(given: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the program makes of an environment. Raises `SettingsError` for what it does not take."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    return load_settings()


@dataclass(frozen=True, slots=True)
class Expression:
    """A PromQL expression, and where it stands."""

    where: str
    text: str

    def __str__(self) -> str:
        return self.where


def alerts() -> list[dict[str, Any]]:
    [rules] = documents("prometheus/alerts.yaml")
    return [rule for group in rules["groups"] for rule in group["rules"]]


def dashboards() -> list[tuple[str, Any]]:
    found = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
    return [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in found]


def expressions() -> list[Expression]:
    """Those of all alerts and panels."""
    rules = [Expression(rule["alert"], rule["expr"]) for rule in alerts()]
    panels = [
        Expression(f"{name}: {panel['title']}", target["expr"])
        for name, board in dashboards()
        for panel in board["panels"]
        for target in panel["targets"]
    ]
    return rules + panels


@dataclass(frozen=True, slots=True)
class Used:
    """A metric that an expression reads, and the labels that it is asked for."""

    name: str
    labels: frozenset[str]


def metrics_in(expression: Expression) -> list[Used]:
    """Every metric that an expression names. Raises `ValueError` when it is no PromQL."""
    text = re.sub(r"\$__(rate_interval|range|interval)", "5m", expression.text)
    return list(_used(promql_parser.parse(text), frozenset()))


def _used(node: Any, grouped: frozenset[str]) -> Iterator[Used]:
    match type(node).__name__:
        case "VectorSelector":
            asked = {matcher.name for matcher in node.matchers.matchers}
            yield Used(node.name, grouped | asked)
        case "MatrixSelector":
            yield from _used(node.vector_selector, grouped)
        case "AggregateExpr":
            by = frozenset(node.modifier.labels) if node.modifier else frozenset[str]()
            yield from _used(node.expr, grouped | by)
        case "Call":
            for argument in node.args:
                yield from _used(argument, grouped)
        case "BinaryExpr":
            yield from _used(node.lhs, grouped)
            yield from _used(node.rhs, grouped)
        case "ParenExpr" | "UnaryExpr" | "SubqueryExpr":
            yield from _used(node.expr, grouped)
        case "NumberLiteral" | "StringLiteral":
            return
        case other:
            raise AssertionError(f"{other} is not looked into")


def catalogue() -> dict[str, set[str]]:
    """Every name that may be scraped, with its labels."""
    found: dict[str, set[str]] = dict(SCRAPED)
    metrics = Metrics()
    for metric in vars(metrics).values():
        if not hasattr(metric, "describe"):
            continue
        [family] = metric.describe()
        labels = set(metric._labelnames)
        names = {"counter": [f"{family.name}_total"], "histogram": [f"{family.name}{suffix}" for suffix in SUFFIXES]}
        for name in names.get(family.type, [family.name]):
            found[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    assert all(name.startswith(f"{PREFIX}_") for name in found.keys() - SCRAPED.keys())
    return found
