"""Short HTTP requests of our own to what runs inside an instance: one new connection each, a bounded answer."""

import asyncio
from collections.abc import Mapping

from vastproxy import __version__
from vastproxy.services.backends.engines import ProbeResponse
from vastproxy.services.errors import BackendProtocolError, BackendTimeout
from vastproxy.services.tunnels.base import Tunnel
from vastproxy.services.upstream.connection import UpstreamConnection

#: Bytes of an answer that are read. A model list of a thousand names is 200 KiB.
MAX_ANSWER_BYTES = 1 << 20

_USER_AGENT = f"vastproxy/{__version__}"


class TunnelFetch:
    """The `Fetch` of `engines.py`, over a tunnel."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

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

        Raises ChannelRefused (the port is closed), TunnelLost, BackendTimeout, BackendProtocolError,
        ResponseInterrupted.
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

    async def _exchange(self, port: int, data: bytes, timeout_s: float, *, head_only: bool) -> ProbeResponse:
        connection = await self._tunnel.open(UpstreamConnection, port)
        try:
            connection.begin(data, head_only=head_only)
            head = await connection.response(timeout_s=timeout_s, idle_timeout_s=timeout_s)
            pieces: list[bytes] = []
            total = 0
            while not connection.finished:
                piece = await connection.read()
                total += len(piece)
                if total > MAX_ANSWER_BYTES:
                    raise BackendProtocolError(f"port {port} sent more than {MAX_ANSWER_BYTES} bytes")
                pieces.append(piece)
        finally:
            connection.abort()
        names = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        return ProbeResponse(head.status, names, b"".join(pieces))
