"""Short HTTP requests of our own to what runs inside an instance: one new connection each, a bounded answer."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Protocol

from vastproxy import __version__
from vastproxy.services.backends.engines import ProbeResponse
from vastproxy.services.errors import (
    BackendError,
    BackendProtocolError,
    BackendTimeout,
    ResponseInterrupted,
    TunnelLost,
)
from vastproxy.services.http1.fields import FieldTable
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.response import ResponseHead

#: Bytes of an answer that are read. A model list of a thousand names is 200 KiB.
MAX_ANSWER_BYTES = 1 << 20

_USER_AGENT = f"vastproxy/{__version__}"


class Way(Protocol):
    """What leads into an instance: a tunnel, or who counts what it carries."""

    @property
    def is_alive(self) -> bool:
        """See `Tunnel.is_alive`."""
        ...

    async def open(self, factory: Callable[[], UpstreamConnection], port: int) -> UpstreamConnection:
        """See `Tunnel.open`."""
        ...


class TunnelFetch:
    """The `Fetch` of `engines.py`, over a tunnel."""

    def __init__(self, tunnel: Way, *, fields: FieldTable | None = None) -> None:
        """`fields`: header lines that others have read already; a thousand probes get the same ones."""
        self._tunnel = tunnel
        self._make = functools.partial(UpstreamConnection, fields)

    async def __call__(
        self,
        port: int,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float,
    ) -> ProbeResponse:
        """Ask `http://127.0.0.1:<port><path>` inside the instance. `timeout_s` bounds all of it.

        Raises ChannelRefused (the port is closed), TunnelLost (also when it ends while the answer is awaited),
        BackendTimeout, BackendProtocolError, ResponseInterrupted.
        """
        fields = {
            "host": f"127.0.0.1:{port}",
            "user-agent": _USER_AGENT,
            "connection": "close",
            **(headers or {}),
        }
        if body or method == "POST":
            fields["content-length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(port, head + body, timeout_s, head_only=method == "HEAD")
        except TimeoutError:
            raise BackendTimeout(
                f"port {port} did not answer {method} {path} within {timeout_s:g} s", phase="headers"
            ) from None
        except ResponseInterrupted as error:
            if self._tunnel.is_alive:
                raise
            raise TunnelLost(f"the tunnel ended while port {port} was asked for {path}") from error

    async def _exchange(self, port: int, data: bytes, timeout_s: float, *, head_only: bool) -> ProbeResponse:
        connection = await self._tunnel.open(self._make, port)
        answer = _Answer(port)
        try:
            connection.send(
                data, answer, headers_timeout_s=timeout_s, idle_timeout_s=timeout_s, head_only=head_only
            )
            return await answer.whole
        finally:
            connection.abort()


class _Answer:
    """A `Sink` that collects one answer. `whole` is done when it is complete, or will never be."""

    def __init__(self, port: int) -> None:
        self.whole: asyncio.Future[ProbeResponse] = asyncio.get_running_loop().create_future()
        self._port = port
        self._head: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._total = 0

    def engine_interim(self, status: int, lines: bytes) -> None:
        pass

    def engine_answered(self, head: ResponseHead, data: bytes, done: bool) -> None:
        self._head = head
        self.engine_data(data, done)

    def engine_data(self, data: bytes, done: bool) -> None:
        self._pieces.append(data)
        self._total += len(data)
        if self.whole.done():
            return
        if self._total > MAX_ANSWER_BYTES:
            text = f"port {self._port} sent more than {MAX_ANSWER_BYTES} bytes"
            self.whole.set_exception(BackendProtocolError(text))
        elif done and self._head is not None:
            names = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._head.headers}
            self.whole.set_result(ProbeResponse(self._head.status, names, b"".join(self._pieces)))

    def engine_switched(self, head: ResponseHead, data: bytes) -> None:
        pass  # nothing else was offered, so the reader refuses it

    def engine_failed(self, error: BackendError) -> None:
        if not self.whole.done():
            self.whole.set_exception(error)

    def engine_writable(self) -> None:
        pass
