"""HTTP/1.1 on the wire, judged without the code under test.

Two oracles read the same bytes: a grammar as strict as RFC 9112 can be read (`MessageReader`), which knows no
permission to be lenient, and h11. What a proxy sends to an engine must be a message to both, the same one, and end
in the same place: then no engine, however it parses, can take a part of one message for another.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import h11

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TARGET = rb"[!-~\x80-\xff]+"
_VALUE = rb"(?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?"
_LINE = re.compile(rb"(%b) (%b) HTTP/1\.1" % (_TOKEN, _TARGET))
_FIELD = re.compile(rb"(%b): ?(%b)" % (_TOKEN, _VALUE))
_STATUS_LINE = re.compile(rb"HTTP/1\.1 [1-5][0-9][0-9] [ \t!-~\x80-\xff]*")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_CHUNK_SIZE = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,15})\r\n")
_LAST_CHUNK = b"0\r\n\r\n"
_ABOVE_ASCII = re.compile(rb"[\x80-\xff]")


class NotStrict(AssertionError):
    """The bytes are no message, or one that parsers might read in different ways."""


@dataclass(frozen=True, slots=True)
class Message:
    """One whole request as an engine reads it. Names of headers as they were written."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def __str__(self) -> str:
        return f"{self.method} {self.target} {self.body[:60]!r}"


class MessageReader:
    """Reads requests of one connection. Raises NotStrict at the first byte that is not beyond doubt."""

    def __init__(self) -> None:
        self._data = b""
        self.raw: list[bytes] = []
        """The bytes of each message that was returned."""

    @property
    def unfinished(self) -> bytes:
        """What has come of a message that is not whole."""
        return self._data

    def feed(self, data: bytes) -> list[Message]:
        self._data += data
        messages = []
        while (found := _read_message(self._data)) is not None:
            message, end = found
            self.raw.append(self._data[:end])
            self._data = self._data[end:]
            messages.append(message)
        return messages


def _read_message(data: bytes) -> tuple[Message, int] | None:
    """The first message and where it ends; None when it is not whole."""
    head, blank, _ = data.partition(b"\r\n\r\n")
    if not blank:
        return None
    method, target, headers = _read_head(head)
    begin = len(head) + 4
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    codings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
    if codings:
        if codings != [b"chunked"] or lengths:
            raise NotStrict(f"ambiguous framing: {codings} {lengths}")
        found = _read_chunks(data, begin)
        if found is None:
            return None
        body, end = found
    else:
        if len(lengths) > 1 or (lengths and not _LENGTH.fullmatch(lengths[0])):
            raise NotStrict(f"ambiguous length: {lengths}")
        end = begin + (int(lengths[0]) if lengths else 0)
        if end > len(data):
            return None
        body = data[begin:end]
    text = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return Message(method.decode(), target.decode("latin-1"), text, body), end


@functools.lru_cache(4096)
def _read_head(head: bytes) -> tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]]:
    first, *rest = head.split(b"\r\n")
    if (line := _LINE.fullmatch(first)) is None:
        raise NotStrict(f"request line {first[:200]!r}")
    headers = []
    for field in rest:
        if (match := _FIELD.fullmatch(field)) is None:
            raise NotStrict(f"header line {field[:200]!r}")
        headers.append((match[1], match[2]))
    if sum(name.lower() == b"host" for name, _ in headers) != 1:
        raise NotStrict(f"not one Host in {head[:300]!r}")
    return line[1], line[2], tuple(headers)


def _read_chunks(data: bytes, begin: int) -> tuple[bytes, int] | None:
    body, at = b"", begin
    while not data.startswith(_LAST_CHUNK, at):
        if data.find(b"\n", at) < 0 or _LAST_CHUNK.startswith(data[at:]):
            return None
        if (match := _CHUNK_SIZE.match(data, at)) is None:
            raise NotStrict(f"chunk {data[at : at + 40]!r}")
        size = int(match[1], 16)
        if len(data) < match.end() + size + 2:
            return None
        body += data[match.end() : match.end() + size]
        at = match.end() + size + 2
        if data[at - 2 : at] != b"\r\n":
            raise NotStrict(f"chunk without an end {data[at - 2 : at + 40]!r}")
    return body, at + len(_LAST_CHUNK)


@functools.lru_cache(4096)
def as_h11_reads(raw: bytes) -> tuple[str, str, bytes, bytes]:
    """Method, target, body and what follows the first message, as h11 reads a request. Raises NotStrict."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    line, end, rest = raw.partition(b"\r\n")
    connection.receive_data(_ABOVE_ASCII.sub(b"?", line) + end + rest)  # what h11 will not have in a target
    try:
        request = connection.next_event()
        if not isinstance(request, h11.Request):
            raise NotStrict(f"h11 sees {request!r} in {raw[:200]!r}")
        body = b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise NotStrict(f"h11 sees {event!r} in {raw[:200]!r}")
            body += bytes(event.data)
    except h11.RemoteProtocolError as error:
        raise NotStrict(f"h11 refuses {raw[:200]!r}: {error}") from error
    target = line.split(b" ")[1].decode("latin-1")
    if request.target.decode() != _ABOVE_ASCII.sub(b"?", target.encode("latin-1")).decode():
        raise NotStrict(f"h11 reads the target {request.target!r} in {raw[:200]!r}")
    return request.method.decode(), target, body, connection.trailing_data[0]


# ── the client's side ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer as h11 reads it. `complete`: its body ended as its framing says."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool
    interim: tuple[int, ...] = ()

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@functools.lru_cache(4096)
def read_answers(data: bytes, methods: tuple[str, ...], *, closed: bool) -> tuple[tuple[Answer, ...], bytes]:
    """What a client has got on one connection for requests of these methods: the answers, and what h11 cannot take
    for one. `closed`: the connection has ended after `data`. Methods may be more than there are answers."""
    answers: list[Answer] = []
    for method in methods:
        if not data:
            break
        answer, data = _read_answer(data, method, closed=closed)
        if answer is None:
            break
        answers.append(answer)
        if not answer.complete:
            break
    return tuple(answers), data


def _read_answer(data: bytes, method: str, *, closed: bool) -> tuple[Answer | None, bytes]:
    _require_strict_head(data)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "x"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if closed:
        connection.receive_data(b"")
    interim: list[int] = []
    response: h11.Response | None = None
    body, complete = b"", False
    try:
        while not complete and (event := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.InformationalResponse):
                interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                complete = True
            else:
                break
    except h11.RemoteProtocolError:
        if response is None:
            return None, data
    if response is None:
        return None, data
    headers = tuple((name.decode(), value.decode("latin-1")) for name, value in response.headers)
    return Answer(response.status_code, headers, body, complete, tuple(interim)), connection.trailing_data[0]


def _require_strict_head(data: bytes) -> None:
    """What h11 would let pass: bare LF, folded lines, blanks around names. Nothing of that may be sent to a client."""
    head, blank, _ = data.partition(b"\r\n\r\n")
    if not blank:
        return
    first, *rest = head.split(b"\r\n")
    if not _STATUS_LINE.fullmatch(first):
        raise NotStrict(f"status line {first[:200]!r}")
    if wrong := [field for field in rest if not _FIELD.fullmatch(field)]:
        raise NotStrict(f"header line {wrong[0][:200]!r}")


def shown(data: bytes | Sequence[object], limit: int = 400) -> str:
    """For messages of failed tests."""
    text = repr(data)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
