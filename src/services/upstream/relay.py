"""Tokens on their way past everybody who need not see them.

A token of a stream comes as one chunk that ends an event, and goes out as one: the same bytes. So while a chunked
answer is passed on to a client that is written chunks, such a piece goes from the engine's connection to the client's
as it came. Whatever else comes – a part of a chunk, several, half an event, the end – is read and goes the long way, by
the sink of the answer.
"""

from typing import Protocol

from vastproxy.services.deadline import Silence
from vastproxy.services.http1.chunked import event_bytes
from vastproxy.services.upstream.response import BODY, ResponseReader


class ChunkClient(Protocol):
    """Who is being sent a chunked answer."""

    @property
    def write_paused(self) -> bool:
        """Does it read more slowly than it is written to?"""
        ...

    def send_chunk(self, chunk: bytes) -> None:
        """Send more of the body: one chunk in its frame."""
        ...


class Witness(Protocol):
    """Who is told that the engine lives."""

    has_answered: bool


class Relay:
    """The short way of one answer after the other. A part of the connection that they come on and no object of its
    own: with hundreds of streams, what a token costs is above all how much memory it touches."""

    __slots__ = (
        "_bytes_before",
        "_client",
        "_reader",
        "_relay_client",
        "_silence",
        "_witness",
        "relayed_bytes",
    )

    _witness: Witness

    def __init__(self, reader: ResponseReader, silence: Silence) -> None:
        """`reader`: of what goes the long way. `silence`: what is told that something came."""
        self._reader = reader
        self._silence = silence
        #: Whose answer it is, and who may be sent a whole chunk that comes now.
        self._relay_client: ChunkClient | None = None
        self._client: ChunkClient | None = None
        self._bytes_before = 0
        self.relayed_bytes = 0
        """How much of the body of the present or last answer has gone the short way."""

    @property
    def relayed_last(self) -> bool:
        """Was it an event on the short way that came last?"""
        return self.relayed_bytes > self._bytes_before

    def relay_to(self, client: ChunkClient, witness: Witness) -> None:
        """Let events go past the sink to `client`, which has been sent the head and is sent chunks, if the body comes
        in chunks. From within `engine_answered`, and not after `abort` or `forget`."""
        if self._reader.phase is BODY:
            self._relay_client = client
            self._witness = witness
            self._after_long_way(told=True)

    def data_received(self, data: bytes) -> None:
        client = self._client
        if client is None or not (size := event_bytes(data)):
            self._take(data)
            return
        self.relayed_bytes += size
        self._silence.heard = self._witness.has_answered = True
        client.send_chunk(data)
        if client.write_paused:
            self.pause_reading()

    def pause_reading(self) -> None:
        raise NotImplementedError

    def _take(self, data: bytes) -> None:
        """What goes the long way."""
        raise NotImplementedError

    def _after_long_way(self, *, told: bool) -> None:
        """Something was read. Has a chunk ended with it, so that another may follow? `told`: was it of the body?"""
        chunks = self._reader.chunks
        if told:
            self._bytes_before = self.relayed_bytes
        self._client = self._relay_client if chunks is not None and chunks.is_between else None
