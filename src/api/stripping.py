"""A client that did not ask for the usage of its stream, behind which the event that tells it is taken out.

It stands between an exchange and its client for one answer. Tokens on their short way past the exchange go through
`StrippedChunks`, everything else through `StrippedClient`; both share one `UsageStrip`.
"""

from collections.abc import Sequence

from vastproxy.api.client import Client
from vastproxy.services.http1.grammar import Header
from vastproxy.services.http1.headers import chunk as framed
from vastproxy.services.upstream.relay import ChunkClient
from vastproxy.services.upstream.strip_usage import MARK, UsageStrip

#: How a chunk with one token ends, nearly always: with the object that is the last of its choices. To look for this
#: takes a third of the time that it takes to look for the mark.
_TOKEN_END = b"}]}\n\n\r\n"


class StrippedChunks:
    """Where chunks are sent in their frames."""

    __slots__ = ("_chunks", "_send", "_strip")

    def __init__(self, chunks: ChunkClient, strip: UsageStrip) -> None:
        self._chunks = chunks
        self._send = chunks.send_chunk
        self._strip = strip

    @property
    def write_paused(self) -> bool:
        """See `ChunkClient.write_paused`."""
        return self._chunks.write_paused

    def send_chunk(self, chunk: bytes) -> None:
        """See `ChunkClient.send_chunk`."""
        if self._strip.is_between and (chunk.endswith(_TOKEN_END) or MARK not in chunk):
            self._send(chunk)
        elif kept := self._strip.feed(chunk[chunk.index(b"\r\n") + 2 : -2]):
            self._send(framed(kept))


class StrippedClient:
    """See `Client`. What is no part of the answer's body goes through as it is."""

    __slots__ = ("_client", "strip")

    def __init__(self, client: Client) -> None:
        self._client = client
        self.strip = UsageStrip()

    @property
    def peer(self) -> str:
        """See `Client.peer`."""
        return self._client.peer

    @property
    def scheme(self) -> str:
        """See `Client.scheme`."""
        return self._client.scheme

    @property
    def write_paused(self) -> bool:
        """See `Client.write_paused`."""
        return self._client.write_paused

    @property
    def chunks(self) -> ChunkClient | None:
        """See `Client.chunks`."""
        chunks = self._client.chunks
        return None if chunks is None else StrippedChunks(chunks, self.strip)

    def interim(self, status: int, lines: bytes) -> None:
        """See `Client.interim`."""
        self._client.interim(status, lines)

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
        """See `Client.respond`."""
        data = self.strip.feed(data) if data else data
        if last:
            data += self.strip.end()
        self._client.respond(status, lines, length=length, has_body=has_body, data=data, last=last)

    def send(self, data: bytes) -> None:
        """See `Client.send`."""
        if kept := self.strip.feed(data):
            self._client.send(kept)

    def finish(self, data: bytes = b"", trailers: Sequence[Header] = ()) -> None:
        """See `Client.finish`."""
        self._client.finish((self.strip.feed(data) if data else data) + self.strip.end(), trailers)

    def break_off(self, data: bytes = b"") -> None:
        """See `Client.break_off`. Of an event that has come in part nothing was sent, and nothing is."""
        self._client.break_off(data)

    def pause_reading(self) -> None:
        """See `Client.pause_reading`."""
        self._client.pause_reading()

    def resume_reading(self) -> None:
        """See `Client.resume_reading`."""
        self._client.resume_reading()

    def switch(self, lines: bytes) -> None:
        """See `Client.switch`."""
        self._client.switch(lines)
