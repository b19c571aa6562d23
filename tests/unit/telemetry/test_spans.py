import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from schemas.traces import origin_of
from workers.telemetry import spans
from workers.telemetry.otlp import OtlpTracer, init_tracing, planned_ids

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOT_SAMPLED = GIVEN[:-2] + "00"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(id_generator=planned_ids())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans.install(OtlpTracer(provider.get_tracer("tests")))
    yield exporter
    spans.install(None)
    provider.shutdown()


def ids(span: ReadableSpan) -> tuple[str, str, str | None]:
    """Trace, span, parent."""
    assert span.context is not None
    parent = f"{span.parent.span_id:016x}" if span.parent is not None else None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent


def test_without_an_endpoint_nothing_is_on_and_nothing_is_imported() -> None:
    assert init_tracing(None, role="worker") is False
    assert init_tracing("", role="worker") is False
    assert spans.begin("x") is spans.NOBODY
    with spans.span("x") as span:
        assert span.traceparent is None
        assert spans.current() is spans.NOBODY
    code = "import sys, workers.app, workers.gateway.app; sys.exit('opentelemetry.exporter' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


async def test_what_happens_inside_of_a_span_hangs_on_it_in_the_tasks_it_starts_too(
    exported: InMemorySpanExporter,
) -> None:
    async def call() -> None:
        spans.begin("call").end()

    with spans.span("turn", GIVEN) as turn:
        await asyncio.create_task(call())
    call_span, turn_span = exported.get_finished_spans()
    assert ids(turn_span) == ("4bf92f3577b34da6a3ce929d0e0e4736", str(turn.traceparent).split("-")[2], GIVEN[36:52])
    assert ids(call_span)[2] == ids(turn_span)[1]
    assert spans.current() is spans.NOBODY


def test_a_trace_that_nobody_has_begun_begins_where_all_look_for_it(exported: InMemorySpanExporter) -> None:
    origin = origin_of("evt_1", None)
    spans.past("accept", origin, 0.25, {}, own=True)
    spans.past("queue", origin, 1, {})
    accept, queue = exported.get_finished_spans()
    assert ids(accept) == (origin[3:35], origin[36:52], None)
    assert ids(queue)[2] == origin[36:52]
    assert accept.end_time is not None
    assert accept.start_time is not None
    assert accept.end_time - accept.start_time == 250_000_000


def test_a_trace_that_its_publisher_does_not_sample_is_not_exported(exported: InMemorySpanExporter) -> None:
    with spans.span("turn", NOT_SAMPLED) as turn:
        spans.begin("model").end()
    assert str(turn.traceparent).endswith("-00"), "those further on are told"
    assert exported.get_finished_spans() == ()


def test_a_trace_that_begins_here_is_sampled_whole_or_not_at_all() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(0.25), id_generator=planned_ids())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans.install(OtlpTracer(provider.get_tracer("tests")))
    for number in range(100):
        origin, said = origin_of(f"evt_{number}", None), {spans.EVENT_ID: f"evt_{number}"}
        spans.past("accept", origin, 0.25, said, own=True)
        with spans.span("turn", origin, attributes=said):
            spans.begin("model").end()
    spans.install(None)
    spans_of = Counter(ids(span)[0] for span in exporter.get_finished_spans())
    assert 0 < len(spans_of) < 100
    assert set(spans_of.values()) == {3}


def test_an_error_is_told_by_its_class_and_not_by_its_text(exported: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), spans.span("turn", GIVEN):
        raise ValueError("my secret question")
    [span] = exported.get_finished_spans()
    assert span.attributes == {"error.type": "ValueError"}
    assert (span.status.is_ok, span.status.description, list(span.events)) == (False, None, [])
