"""The seam between one client's connection and whoever answers its requests.

A `Handler` answers one request; a `Client` is where the answer goes. Both only make plain calls from the event loop,
so that a token on its way costs no task, no future and no queue. Two clients exist: our own server's connection
(`api/http/protocol.py`), and an adapter for any other ASGI server (`api/foreign.py`).
"""

from collections.abc import Sequence
from typing import Protocol

from vastproxy.api.errors import ApiError
from vastproxy.services.http1.grammar import Header
from vastproxy.services.upstream.relay import ChunkClient


class Client(Protocol):
    """The sender of one request, waiting for its answer. After `last`, `finish`, `break_off` or `client_left` it hears
    nothing more and says nothing more."""

    @property
    def peer(self) -> str:
        """The address it connects from, without the port; "" when there is none."""
        ...

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        ...

    @property
    def write_paused(self) -> bool:
        """Does it read more slowly than it is written to? Then stop until `client_writable`."""
        ...

    @property
    def chunks(self) -> ChunkClient | None:
        """Where chunks of the body can be sent in their frames, after `respond`; None if it is sent none."""
        ...

    def interim(self, status: int, lines: bytes) -> None:
        """Pass an interim response with these header lines on, if the client understands them."""
        ...

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
        """Send the head of the answer, with the first of its body in the same write.

        `lines`: header lines, each with its CRLF. `length`: bytes of the body, which they announce; None when that
        is not known. `has_body` False: none will come whatever they say, and `last` must be set.
        """
        ...

    def send(self, data: bytes) -> None:
        """Send more of the body, of which there is more to come."""
        ...

    def finish(self, data: bytes = b"", trailers: Sequence[Header] = ()) -> None:
        """Send the last of the body, and the trailers if the client takes any."""
        ...

    def break_off(self, data: bytes = b"") -> None:
        """End in the middle of the answer, after `data`, so that nobody takes it for whole."""
        ...

    def pause_reading(self) -> None:
        """Let nothing more of the request's body come until `resume_reading`."""
        ...

    def resume_reading(self) -> None: ...

    def switch(self, lines: bytes) -> None:
        """Answer 101. From now on bytes are bytes in both directions, `send` writes them as they are, and
        `client_data` brings them; what the client had sent already comes at once. Only for requests that offered it.
        """
        ...


class Handler(Protocol):
    """Answers one request. All calls come from the client's side."""

    def begin(self, data: bytes, *, complete: bool) -> None:
        """The request has come, with `data` of its body; `complete` when that is all of it. Called once, first."""
        ...

    def client_data(self, data: bytes, *, complete: bool) -> None:
        """More of the body; after a switch of protocols, `complete` means that the client sends nothing more."""
        ...

    def client_writable(self) -> None:
        """`write_paused` is over."""
        ...

    def client_left(self) -> None:
        """The client is gone. Nothing can be answered any more."""
        ...

    def client_failed(self, error: ApiError) -> None:
        """The rest of the request is malformed or does not come. Answer with `error` if nothing was answered yet,
        else break off."""
        ...
