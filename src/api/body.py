"""The client's side of one request: its body as it comes in, and the moment it leaves.

ASGI has one `receive` for both. While the body is still coming it gives pieces of it; after that it returns only when
the client is gone. So there is one reader at a time: first the body, then the watch.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from vastproxy.errors import VastproxyError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

#: Bytes of a body that are held so that the request can be sent again, elsewhere. Most prompts are smaller.
REPLAY_LIMIT_BYTES = 1 << 20


class ClientDisconnected(VastproxyError):
    """The client left. Nobody's failure."""

    status = 499


class BodyTooLarge(VastproxyError):
    """The body is larger than allowed."""

    status = 413


class RequestBody:
    """Reads the body piece by piece, holds the first REPLAY_LIMIT_BYTES of it, and counts against the limit."""

    def __init__(self, receive: Receive, *, limit_bytes: int) -> None:
        self._receive = receive
        self._limit = limit_bytes
        self._total = 0
        self._held: list[bytes] | None = []
        self.complete = False
        """Has the client sent everything?"""

    async def read(self) -> bytes:
        """The next piece, perhaps b""; after it `complete` says whether there are more.

        Raises ClientDisconnected, BodyTooLarge.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected("the client left while sending its request")
        data: bytes = message.get("body", b"")
        self.complete = not message.get("more_body", False)
        self._total += len(data)
        if self._total > self._limit:
            raise BodyTooLarge(f"the body is larger than {self._limit} bytes")
        if self._held is not None and data:
            if self._held and self._total > REPLAY_LIMIT_BYTES:
                self._held = None  # the first piece is always held: it has not been sent yet
            else:
                self._held.append(data)
        return data

    @property
    def held(self) -> bytes | None:
        """Everything read so far, or None when it was too much to hold."""
        return b"".join(self._held) if self._held is not None else None

    async def wait_for_disconnect(self) -> None:
        """Return when the client is gone, or its response is complete. Only after the body is complete."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
