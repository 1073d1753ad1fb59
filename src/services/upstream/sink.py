"""Where a response goes: what an engine's side tells whoever sent the request."""

from typing import Any, Protocol

from vastproxy.services.errors import BackendError
from vastproxy.services.upstream.response import ResponseHead


class Sink(Protocol):
    """Who asked, and is told. Called from the event loop, never from within a call that it makes itself."""

    def engine_interim(self, status: int, lines: bytes) -> None:
        """An interim response (100, 103, …) came, with these header lines that travel."""

    def engine_answered(self, head: ResponseHead, data: bytes, done: bool) -> None:
        """The final head came, with `data` of its body; `done` when that was all."""

    def engine_data(self, data: bytes, done: bool) -> None:
        """More of the body, or of what follows a switch of protocols."""

    def engine_switched(self, head: ResponseHead, data: bytes) -> None:
        """The engine agreed to another protocol (101). From now on bytes are bytes."""

    def engine_failed(self, error: BackendError) -> None:
        """The response will not come, or not to its end. The connection is of no more use: `abort` it."""

    def engine_writable(self) -> None:
        """More of the request may be written: `write_paused` is over."""


class Home(Protocol):
    """Where connections wait for their next request."""

    def release(self, connection: Any) -> None:
        """Take it back after its answer was read to the end; one that cannot go on is ended."""
        ...
