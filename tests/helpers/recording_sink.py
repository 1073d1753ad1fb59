"""Who asked an engine something, and writes down what comes back."""

from vastproxy.services.errors import BackendError
from vastproxy.services.http1.grammar import Header
from vastproxy.services.upstream.response import ResponseHead


class RecordingSink:
    """A `Sink`. `calls` has the name of each call, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.interim: list[tuple[int, list[Header]]] = []
        self.head: ResponseHead | None = None
        self.body = b""
        self.done = False
        self.error: BackendError | None = None

    def engine_interim(self, status: int, headers: list[Header]) -> None:
        self.calls.append("interim")
        self.interim.append((status, headers))

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
