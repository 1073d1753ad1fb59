"""A reader of Server-Sent Events over a bare connection, who takes as much as he is asked to."""

import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.helpers.talk import Talk, get

_END = b"\n\n"


@dataclass(frozen=True, slots=True)
class Sent:
    """One event. `kind` is "" for a comment, whose text is in `data`; `id` is None where none was sent."""

    kind: str
    data: Any
    id: int | None = None


class SseReader:
    """One request for a stream, and what comes of it. The framing of HTTP/1.1 is taken off."""

    def __init__(self, port: int, target: str, *lines: str, receive_bytes: int | None = None) -> None:
        self.talk = Talk(port, receive_bytes=receive_bytes)
        self._request = get(target, *lines)
        self._text = b""
        self.ended = False
        """Has the answer come to its proper end?"""

    async def __aenter__(self) -> Self:
        await self.talk.__aenter__()
        try:
            self.talk.write(self._request)
            self.head = (await self.talk.until(b"\r\n\r\n")).lower()
        except BaseException:
            await self.talk.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.talk.__aexit__(kind, error, trace)

    async def next(self) -> Sent | None:
        """The next event or comment; None at the end."""
        while _END not in self._text:
            size = int((await self.talk.until(b"\r\n")).strip(), 16)
            data = b""
            while len(data) < size + 2:  # and the line end behind the chunk
                data += await self.talk.some()
            self.talk.put_back(data[size + 2 :])
            self._text += data[:size]
            if size == 0:
                self.ended = True
                assert not self._text, "an event was cut off"
                return None
        block, _, self._text = self._text.partition(_END)
        return _parsed(block.decode())

    async def until(self, kind: str) -> Sent:
        """The next event of this kind; others are passed over."""
        while (sent := await self.next()) is not None:
            if sent.kind == kind:
                return sent
        raise AssertionError(f"the stream ended without an event {kind!r}")

    async def happened(self, what: str) -> dict[str, Any]:
        """The next thing of this kind that has happened."""
        while (found := await self.until("happened")).data["kind"] != what:
            pass
        assert found.id == found.data["seq"]
        told: dict[str, Any] = found.data
        return told


def _parsed(block: str) -> Sent:
    if block.startswith(":"):
        return Sent("", block[1:].strip())
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    if "retry" in fields:
        return Sent("retry", int(fields["retry"]))
    return Sent(fields["event"], json.loads(fields["data"]), int(fields["id"]) if "id" in fields else None)
