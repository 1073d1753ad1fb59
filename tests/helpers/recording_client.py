"""A client that writes down what it is answered, and requests to go with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vastproxy.api.errors import ApiError
from vastproxy.api.http.request import Request
from vastproxy.services.http1.chunked import ChunkedReader
from vastproxy.services.http1.fields import marked
from vastproxy.services.http1.framing import EMPTY, Framing, tokens
from vastproxy.services.http1.grammar import Header
from vastproxy.services.http1.headers import headers_of, request_fields


def make_request(
    method: bytes = b"GET",
    target: bytes = b"/v1/x",
    *,
    headers: Sequence[Header] = (),
    framing: Framing = EMPTY,
    minor: int = 1,
    host: bytes = b"proxy.test",
    expects_continue: bool = False,
    takes_trailers: bool = False,
    upgrade: bytes = b"",
    keep_alive: bool = True,
) -> Request:
    """A request as the reader would make it."""
    table = request_fields()
    fields = [table.make(header) for header in headers]
    connection = tokens([value for name, value in headers if name == b"connection"])
    return Request(
        method,
        target,
        fields,
        minor,
        framing,
        connection,
        marked(fields),
        host=host,
        keep_alive=keep_alive,
        expects_continue=expects_continue,
        takes_trailers=takes_trailers,
        upgrade=upgrade,
    )


class RecordingClient:
    """A `Client`. `calls` has the name of each call in order; after the end, any further answer is an error."""

    def __init__(self, *, peer: str = "203.0.113.7", scheme: str = "http") -> None:
        self._peer = peer
        self._scheme = scheme
        self.calls: list[str] = []
        self.write_paused = False
        self.reading = True
        self.interims: list[tuple[int, list[Header]]] = []
        self.status: int | None = None
        self.headers: list[Header] = []
        self.length: int | None = None
        self.has_body = True
        self.body = b""
        self.trailers: list[Header] = []
        self.complete = False
        self.broken = False
        self.switched = False
        self.on_send: Callable[[], None] = lambda: None
        """Called for each answer or piece of one, before it is written down."""

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def scheme(self) -> str:
        return self._scheme

    @property
    def ended(self) -> bool:
        return self.complete or self.broken

    def header(self, name: bytes) -> bytes | None:
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1
        return found[0] if found else None

    def _hear(self, call: str) -> None:
        assert not self.ended, f"{call} after the end: {self.calls}"
        self.calls.append(call)

    def interim(self, status: int, lines: bytes) -> None:
        assert self.status is None
        self._hear("interim")
        self.interims.append((status, headers_of(lines)))

    def respond(
        self,
        status: int,
        lines: bytes,
        *,
        length: int | None,
        has_body: bool = True,
        data: bytes = b"",
        last: bool = False,
    ) -> None:
        assert self.status is None, "answered twice"
        headers = headers_of(lines)
        assert has_body or (last and not data), "a body where there is none"
        announced = [value for name, value in headers if name == b"content-length"]
        assert not has_body or announced == ([] if length is None else [b"%d" % length])
        self._hear("respond")
        self.on_send()
        self.status, self.headers = status, headers
        self.length, self.has_body = length, has_body
        self.body, self.complete = data, last
        self._check_length()

    def send(self, data: bytes) -> None:
        assert self.status is not None
        self._hear("send")
        self.on_send()
        self.body += data

    @property
    def chunks(self) -> "RecordingClient | None":
        return self if self.status is not None and self.has_body and self.length is None else None

    def send_chunk(self, chunk: bytes) -> None:
        reader = ChunkedReader()
        self.send(reader.feed(chunk))
        assert reader.is_between, "not one whole chunk"
        assert not reader.done, "the end of the body"

    def finish(self, data: bytes = b"", trailers: Sequence[Header] = ()) -> None:
        assert self.status is not None
        self._hear("finish")
        self.on_send()
        self.body += data
        self.trailers, self.complete = list(trailers), True
        self._check_length()

    def _check_length(self) -> None:
        if self.complete and self.has_body and self.length is not None:
            assert len(self.body) == self.length, "not as long as announced"

    def break_off(self, data: bytes = b"") -> None:
        self._hear("break_off")
        self.body += data
        self.broken = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def switch(self, lines: bytes) -> None:
        assert self.status is None
        self._hear("switch")
        self.status, self.headers = 101, headers_of(lines)
        self.switched = True


@dataclass
class RecordingHandler:
    """A `Handler` that does nothing by itself. `body` is what has come, `calls` the name of each call."""

    request: Request | None = None
    calls: list[str] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    left: bool = False
    error: ApiError | None = None
    on_begin: Callable[[], None] = lambda: None
    on_data: Callable[[], None] = lambda: None
    on_failed: Callable[[ApiError], None] = lambda _: None

    def begin(self, data: bytes, *, complete: bool) -> None:
        assert not self.calls
        self.calls.append("begin")
        self.body, self.complete = data, complete
        self.on_begin()

    def client_data(self, data: bytes, *, complete: bool) -> None:
        self.calls.append("data")
        assert not self.complete
        self.body += data
        self.complete = complete
        self.on_data()

    def client_writable(self) -> None:
        self.calls.append("writable")

    def client_left(self) -> None:
        self.calls.append("left")
        self.left = True

    def client_failed(self, error: ApiError) -> None:
        self.calls.append("failed")
        self.error = error
        self.on_failed(error)
