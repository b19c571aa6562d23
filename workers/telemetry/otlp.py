"""Export of spans by OpenTelemetry's protocol (OTLP over HTTP). Off without an endpoint, and then not even imported.

The tracer is ours alone: no library of the process gets it, since what they would say of a call is not ours to bound.
Sampling goes by the caller's flag, and by the SDK's own variables (`OTEL_TRACES_SAMPLER`); so do headers
(`OTEL_EXPORTER_OTLP_HEADERS`) and the resource (`OTEL_RESOURCE_ATTRIBUTES`).
"""

from contextvars import ContextVar
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from schemas.traces import origin_of
from workers.telemetry import spans
from workers.telemetry.spans import EVENT_ID, Attributes, Kind, Span

if TYPE_CHECKING:  # the extra `otel`
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as SdkSpan

MOST_CHARACTERS = 256
"""Of a value; what is longer is cut."""

MOST_WAITING = 4096
"""Spans that wait to be exported; those that come then are dropped, and nothing waits for them."""

EXPORT_EVERY_MS = 1000
EXPORT_SECONDS = 5

_provider: "TracerProvider | None" = None

Place = tuple[int, int, int]
"""Trace, span, flags."""

_place_of_next: ContextVar[Place | None] = ContextVar("place_of_next_span", default=None)


def init_tracing(endpoint: str | None, *, role: str, environment: str = "production") -> bool:
    """Export the spans of this process.

    Args:
        endpoint: of a collector, `http://127.0.0.1:4318`; None leaves it off.
        role: worker, gateway, …: the service is `chatkit-<role>`.
        environment: production, staging, …

    Returns:
        Whether it is on.
    """
    if not endpoint:
        return False
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    release = version("chatkit-workers")
    resource = Resource.create(
        {
            "service.name": f"chatkit-{role}",
            "service.version": release,
            "deployment.environment.name": environment,
        }
    )
    provider = TracerProvider(
        resource=resource, id_generator=planned_ids(), span_limits=SpanLimits(max_attribute_length=MOST_CHARACTERS)
    )
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING, schedule_delay_millis=EXPORT_EVERY_MS)
    )
    global _provider
    _provider = provider
    spans.install(OtlpTracer(provider.get_tracer("chatkit-workers", release)))
    return True


def end_tracing() -> None:
    """Export what is left, within `EXPORT_SECONDS`, and nothing any more. For the end of the process."""
    global _provider
    spans.install(None)
    if _provider is not None:
        _provider.shutdown()
        _provider = None


def planned_ids() -> Any:
    """Random ids, but for a span whose place is known beforehand."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            place = _place_of_next.get()
            return place[0] if place is not None else super().generate_trace_id()

        def generate_span_id(self) -> int:
            place = _place_of_next.get()
            return place[1] if place is not None else super().generate_span_id()

    return Ids()


class OtlpTracer:
    """Begins spans of the SDK."""

    def __init__(self, tracer: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context

        self._tracer, self._trace, self._nothing = tracer, trace, Context()

    def begin(
        self, name: str, parent: str | None, kind: Kind, attributes: Attributes, at_ns: int | None, *, own: bool
    ) -> Span:
        given = {"kind": self._trace.SpanKind[kind.name], "attributes": dict(attributes), "start_time": at_ns}
        if parent is None or own:
            token = _place_of_next.set(_place(parent) if parent is not None else None)
            try:
                return OtlpSpan(self._tracer.start_span(name, self._nothing, **given), self._trace)
            finally:
                _place_of_next.reset(token)
        trace_id, span_id, flags = _place(parent)
        if EVENT_ID in attributes and parent == origin_of(str(attributes[EVENT_ID]), None):
            # the trace begins here, so no caller has decided: all processes do as `accept`, its first span, does
            flags = int(self._tracer.sampler.should_sample(self._nothing, trace_id, name).decision.is_sampled())
        remote = self._trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=self._trace.TraceFlags(flags))
        context = self._trace.set_span_in_context(self._trace.NonRecordingSpan(remote), self._nothing)
        return OtlpSpan(self._tracer.start_span(name, context, **given), self._trace)


class OtlpSpan:
    """A span of the SDK."""

    __slots__ = ("_span", "_trace")

    def __init__(self, span: "SdkSpan", trace: Any) -> None:
        self._span, self._trace = span, trace

    @property
    def traceparent(self) -> str | None:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 1:02x}"

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def fail(self, error: str) -> None:
        self._span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))
        self._span.set_attribute("error.type", error)

    def end(self, at_ns: int | None = None) -> None:
        self._span.end(at_ns)


def _place(traceparent: str) -> Place:
    _, trace, span, flags = traceparent.split("-")
    return int(trace, 16), int(span, 16), int(flags, 16) & 1
