"""A body that does not come whole is gathered: for a moment, or until the model is known that it asks for."""

import asyncio
from collections.abc import Callable

from vastproxy.api.client import Client
from vastproxy.api.guest import MOST_LOOKED_AT_BYTES, Guest
from vastproxy.api.http.request import Request
from vastproxy.api.tools import ProxyTools
from vastproxy.api.upload import Upload
from vastproxy.api.wishes import MODEL_WITHIN_BYTES, HeadWish
from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.routing.peek import Peek

#: A body is gathered until it is complete, this long, or this many bytes. Most are complete at once.
GATHER_S = 0.05
GATHER_BYTES = 64 * 1024


class Gathering:
    """The first pieces of one body, which `upload` has. Calls `ready` once, when enough has come."""

    __slots__ = (
        "_client",
        "_needs_model",
        "_reader",
        "_ready",
        "_request",
        "_timer",
        "_tools",
        "_upload",
        "_wish",
        "continued",
    )

    def __init__(
        self,
        tools: ProxyTools,
        request: Request,
        wish: HeadWish,
        upload: Upload,
        client: Client,
        ready: Callable[[], None],
        guest: Guest | None = None,
    ) -> None:
        """`guest`: who asks, if the model decides whether he may."""
        self._needs_model = guest is not None and guest.needs_model
        self._tools = tools
        self._request = request
        self._wish = wish
        self._upload = upload
        self._client = client
        self._ready = ready
        self._timer: asyncio.TimerHandle | None = None
        self._reader: Peek | None = None
        self.continued = False
        """Has the client been told to send the body?"""

    def feed(self, data: bytes) -> None:
        """More has come, and it is not the end. Where all engines serve the same, the model is nobody's business."""
        total_bytes = self._upload.total_bytes
        if not (self._needs_model or self._tools.dispatcher.targets.needs.is_mixed):
            if self._request.expects_continue or total_bytes >= GATHER_BYTES:
                self._ready()
            elif self._timer is None:
                self._timer = self._tools.call_later(GATHER_S, self._ready)
            return
        if self._request.expects_continue and not self.continued:
            self.continued = True
            self._client.interim(100, b"")
        if self._reader is None:
            self.end()  # engines may have been alike a moment ago, and a part may have come then
            self._reader = self._tools.wishes.begin(self._wish)
            data = self._upload.gathered()
        known = bool(data) and self._reader.feed(data)
        if self._needs_model:  # what comes last could name another one
            known = total_bytes >= MOST_LOOKED_AT_BYTES
        if known or (not self._needs_model and total_bytes >= MODEL_WITHIN_BYTES):
            self._ready()

    def read(self, claim: Claim) -> None:
        """Note what the body says that has come so far."""
        if self._reader is None:
            self._reader = self._tools.wishes.begin(self._wish)
            self._reader.feed(self._upload.gathered())
        self._tools.wishes.read_pieces(claim, self._wish, self._reader)

    def end(self) -> None:
        """It is gathered, or given up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
