"""Samples of counters and histograms on their way: what has grown here goes out, the totals of all come back."""

import json
from collections.abc import Iterator, Mapping

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

Counted = Counter | Histogram

BOUND = "le"


def figure_of(sample: Sample) -> str:
    """The name of a sample in the state: `["chatkit_tokens_total", {"model": "gpt-4.1", "kind": "input"}]`."""
    return json.dumps([sample.name, sample.labels])


class Growth:
    """What these metrics have grown by since it was last taken."""

    def __init__(self, metrics: list[Counted]) -> None:
        self._metrics = metrics
        self._taken: dict[str, float] = {}

    def take(self) -> dict[str, float]:
        """Figure -> growth, those that have grown."""
        grown: dict[str, float] = {}
        for sample in _samples(self._metrics):
            if sample.value:
                figure = figure_of(sample)
                growth = sample.value - self._taken.get(figure, 0.0)
                if growth:
                    grown[figure], self._taken[figure] = growth, sample.value
        return grown


class TotalOf(Collector):
    """One of the metrics with the totals of all processes in the place of its own values."""

    def __init__(self, metric: Counted, totals: Mapping[str, float]) -> None:
        self._metric, self._totals = metric, totals
        [family] = metric.describe()
        for figure in totals:
            name, labels = json.loads(figure)
            if name.startswith(family.name) and metric._labelnames:  # noqa: SLF001  # it says them nowhere else
                labels.pop(BOUND, None)
                if labels.keys() == set(metric._labelnames):  # noqa: SLF001  # else of another version of the program
                    metric.labels(**labels)

    def collect(self) -> list[Metric]:
        [family] = self._metric.collect()
        family.samples = [
            sample._replace(value=self._totals.get(figure_of(sample), 0.0)) for sample in _samples([self._metric])
        ]
        return [family]


def _samples(metrics: list[Counted]) -> Iterator[Sample]:
    for metric in metrics:
        for family in metric.collect():
            for sample in family.samples:
                if not sample.name.endswith("_created"):  # of a process, and of no use to a sum
                    yield sample
