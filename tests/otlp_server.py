"""A collector on loopback: takes OTLP protobuf from real processes and keeps the spans that are in it."""

from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.collector import Collector


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as it came."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    seconds: float
    failed: bool
    attributes: dict[str, Any]


class OtlpServer(Collector):
    """Keeps the spans."""

    content_type = "application/x-protobuf"
    answer = b""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Seen] = []

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        self.spans.extend(_spans_of(ExportTraceServiceRequest.FromString(body)))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of_trace(self, trace: str) -> list[Seen]:
        """The spans of one trace, in order of arrival."""
        return [span for span in self.spans if span.trace == trace]


def _spans_of(request: ExportTraceServiceRequest) -> list[Seen]:
    found = []
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            found += [
                Seen(
                    service=service,
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    attributes=_attributes(span.attributes),
                )
                for span in scope.spans
            ]
    return found


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
