"""One request on its way through the proxy: what it is, where it has been, how it ended."""

import logging
import re
import uuid
from dataclasses import dataclass, field

from starlette.types import Receive, Scope

from vastproxy.api.body import RequestBody
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.headers import Header

access_log = logging.getLogger("vastproxy.access")

#: A request id of the client's is kept when it is one: short, printable, no surprises in a log line.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass(slots=True)
class Exchange:
    """One request on its way, over all its attempts."""

    method: str
    target: bytes
    headers: list[Header]
    request_id: bytes
    pin: int | None
    body: RequestBody
    length: int | None
    sse: bool = False
    tried: set[int] = field(default_factory=set)
    attempts: int = 0
    uploaded: bool = False
    """Has the whole body been written to the connection of this attempt?"""
    started: bool = False
    """Has the client been sent the head of an answer?"""
    status: int = 0
    sent_bytes: int = 0
    instance_id: int | None = None
    connection: UpstreamConnection | None = None
    tail: bytes = b""
    """The last bytes that the client was sent."""


def describe(scope: Scope, receive: Receive, *, max_body_bytes: int) -> Exchange:
    """The request that an ASGI server hands us. A pin that is no id is no pin."""
    headers: list[Header] = scope["headers"]
    request_id, pin, length = b"", None, 0
    for name, value in headers:
        if name == b"x-request-id":
            request_id = value
        elif name == b"x-vastproxy-instance":
            pin = int(value) if value.isdigit() and len(value) < 19 else None
        elif name == b"content-length":
            length = int(value)
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = uuid.uuid4().hex.encode()
    chunked = any(name == b"transfer-encoding" for name, _ in headers)
    query: bytes = scope["query_string"]
    raw_path: bytes = scope["raw_path"]
    return Exchange(
        method=scope["method"],
        target=raw_path + b"?" + query if query else raw_path,
        headers=headers,
        request_id=request_id,
        pin=pin,
        body=RequestBody(receive, limit_bytes=max_body_bytes),
        length=None if chunked else length,
    )


def is_plain_sse(headers: list[Header]) -> bool:
    """Can an event of ours be appended: a stream of events, not compressed, of no announced length?"""
    fields = dict(headers)
    sse = fields.get(b"content-type", b"").lower().startswith(b"text/event-stream")
    return sse and b"content-encoding" not in fields and b"content-length" not in fields


#: Response headers that are ours to write, whatever the engine sent.
OURS = frozenset({b"x-vastproxy-instance", b"x-request-id"})


def own_headers(exchange: Exchange) -> list[Header]:
    """What the client is told about this request, on answers and on errors alike."""
    headers = [(b"x-request-id", exchange.request_id)]
    if exchange.instance_id is not None:
        headers.append((b"x-vastproxy-instance", str(exchange.instance_id).encode()))
    return headers


def log_access(exchange: Exchange, took_s: float) -> None:
    """One line about a request that has ended. The query stays out of it: some put tokens there."""
    if not access_log.isEnabledFor(logging.INFO):
        return
    access_log.info(
        "%s %s %s → instance=%s status=%d bytes=%d attempts=%d took=%.0fms",
        exchange.request_id.decode(),
        exchange.method,
        exchange.target.partition(b"?")[0].decode("latin-1"),
        exchange.instance_id,
        exchange.status,
        exchange.sent_bytes,
        exchange.attempts,
        took_s * 1000,
    )
