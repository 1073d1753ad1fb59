"""What a request is, once its head has been read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vastproxy.services.http1.fields import Field
from vastproxy.services.http1.framing import Framing
from vastproxy.services.http1.grammar import Header


class BadRequest(Exception):
    """The connection cannot go on after this. `status` and `message` are for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class HeadFacts:
    """What others have found out from a head alone. Shared by all requests with the same one on a connection."""

    __slots__ = ("admitted_by", "is_own", "is_proxied", "sent_lines", "wish")

    def __init__(self) -> None:
        self.is_own: bool | None = None
        """Is it for one of our own pages?"""
        self.admitted_by: object = None
        """The key ring that found its key good."""
        self.is_proxied: bool | None = None
        """May its path be asked of an engine?"""
        self.sent_lines: bytes | None = None
        """The header lines that every engine gets: what travels of its own, and what is told of the client."""
        self.wish: object = None
        """What it asks for, as far as the head tells."""


@dataclass(slots=True)  # not frozen, which would double what making one costs
class Request:
    """The head of a request. `target` is in origin form (or `*`), byte for byte."""

    method: bytes
    target: bytes
    fields: list[Field]
    minor: int
    """Of the version: 0 or 1."""
    framing: Framing
    connection: frozenset[bytes]
    """Tokens of `Connection`, in lower case."""
    known: Mapping[bytes, Sequence[bytes]]
    """The values of those fields that are read on this side, by name."""
    host: bytes
    keep_alive: bool
    expects_continue: bool = False
    takes_trailers: bool = False
    upgrade: bytes = b""
    """The protocols that the client offers to change to, if that is possible for this request."""
    facts: HeadFacts = field(default_factory=HeadFacts, compare=False)
    is_again: bool = field(default=False, compare=False)
    """Is it a head that came before, with another length than `fields` say?"""

    @property
    def headers(self) -> list[Header]:
        """Names in lower case and values, in their order."""
        headers = [each.header for each in self.fields]
        if self.is_again:
            announced = b"content-length", b"%d" % (self.framing.length or 0)
            headers = [announced if header[0] == announced[0] else header for header in headers]
        return headers

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]


def again(last: Request, length: int) -> Request:
    """The same head, announcing another length."""
    return Request(
        last.method,
        last.target,
        last.fields,
        last.minor,
        Framing(chunked=False, length=length),
        last.connection,
        last.known,
        last.host,
        last.keep_alive,
        last.expects_continue,
        last.takes_trailers,
        last.upgrade,
        last.facts,
        is_again=True,
    )
