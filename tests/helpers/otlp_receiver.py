"""A collector that takes traces over OTLP/HTTP, as protobuf, and remembers them."""

import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

LIMIT_S = 30.0


class Span:
    """One span as it came, ids in hex."""

    def __init__(self, sent: Any) -> None:
        self.name: str = sent.name
        self.trace_id: str = sent.trace_id.hex()
        self.id: str = sent.span_id.hex()
        self.parent_id: str = sent.parent_span_id.hex()
        self.kind: int = sent.kind
        self.state: str = sent.trace_state
        self.start: int = sent.start_time_unix_nano
        self.end: int = sent.end_time_unix_nano
        self.is_error: bool = sent.status.code == 2
        self.complaint: str = sent.status.message
        self.events: list[str] = [event.name for event in sent.events]
        self.attributes = _values(sent.attributes)


class OtlpReceiver:
    """Listens on a free port of loopback while it is open. `status`: what it answers, 200 unless changed."""

    def __init__(self) -> None:
        self.status = 200
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.raw = b""
        self._come = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until it has come. From another thread than the event loop's."""
        with self._come:
            assert self._come.wait_for(condition, LIMIT_S), (self.paths, [span.name for span in self.spans])

    def roots(self) -> list[Span]:
        """Those of requests."""
        return [span for span in self.spans if span.kind == 2]

    def below(self, parent: Span) -> list[Span]:
        """Its children, in the order in which they began."""
        return sorted(
            (span for span in self.spans if span.parent_id == parent.id), key=lambda span: span.start
        )

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        if handler.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        message = ExportTraceServiceRequest.FromString(body)
        with self._come:  # before the answer: who has it may look at once
            self.paths.append(handler.path)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            if self.status == 200:
                self.raw += body
                for resource in message.resource_spans:
                    self.resource = _values(resource.resource.attributes)
                    for scope in resource.scope_spans:
                        self.spans += [Span(span) for span in scope.spans]
            self._come.notify_all()
        answer = ExportTraceServiceResponse().SerializeToString()
        handler.send_response(self.status)
        handler.send_header("content-type", "application/x-protobuf")
        handler.send_header("content-length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
