"""Who asked an engine something and writes down what comes back, and one connection in memory to ask on."""

from tests.helpers.streams import MemoryStream
from vastproxy.services.errors import BackendError
from vastproxy.services.http1.grammar import Header
from vastproxy.services.http1.headers import headers_of
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.response import ResponseHead

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 7\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
HEADERS_S, IDLE_S = 30.0, 10.0


class RecordingSink:
    """A `Sink`. `calls` has the name of each call, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.interim: list[tuple[int, list[Header]]] = []
        self.head: ResponseHead | None = None
        self.body = b""
        self.done = False
        self.error: BackendError | None = None

    def engine_interim(self, status: int, lines: bytes) -> None:
        self.calls.append("interim")
        self.interim.append((status, headers_of(lines)))

    def engine_answered(self, head: ResponseHead, data: bytes, done: bool) -> None:
        self.calls.append("answered")
        self.head = head
        self.body += data
        self.done = done

    def engine_data(self, data: bytes, done: bool) -> None:
        assert not self.done
        self.calls.append("data")
        self.body += data
        self.done = done

    def engine_switched(self, head: ResponseHead, data: bytes) -> None:
        self.calls.append("switched")
        self.head = head
        self.body += data

    def engine_failed(self, error: BackendError) -> None:
        self.calls.append("failed")
        self.error = error

    def engine_writable(self) -> None:
        self.calls.append("writable")


class Asking:
    """One connection, its stream and who asked."""

    def __init__(self) -> None:
        self.connection = UpstreamConnection()
        self.stream = MemoryStream(self.connection)
        self.sink = RecordingSink()

    def send(
        self, *, head_only: bool = False, may_switch: bool = False, sink: RecordingSink | None = None
    ) -> None:
        """A request goes out; its answer goes to a new sink."""
        self.sink = sink or RecordingSink()
        self.connection.send(
            REQUEST,
            self.sink,
            headers_timeout_s=HEADERS_S,
            idle_timeout_s=IDLE_S,
            head_only=head_only,
            may_switch=may_switch,
        )


def begun(*, head_only: bool = False, may_switch: bool = False, sink: RecordingSink | None = None) -> Asking:
    """A connection on which a request was sent."""
    bench = Asking()
    bench.send(head_only=head_only, may_switch=may_switch, sink=sink)
    return bench
