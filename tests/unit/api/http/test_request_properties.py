"""Whatever bytes arrive in whatever pieces, the request reader either refuses the connection or yields exactly the
messages that h11 yields, with the borders that h11 gives them – and what h11 writes, it never refuses.
"""

import re
from dataclasses import dataclass, replace

import h11
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from tests.corpus.requests import REQUESTS
from tests.helpers.mangled import cut, mangled
from vastproxy.api.http.request import BadRequest, RequestReader

MESSAGES = tuple(case.raw for cases in REQUESTS.values() for case in cases if len(case.raw) < 500)
THOROUGH = settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Fields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Message:
    method: bytes
    headers: Fields
    body: bytes


@dataclass(frozen=True)
class Reading:
    """`unfinished`: the body so far of a message whose head is whole; None without one. `refused`: the status."""

    messages: tuple[Message, ...]
    targets: tuple[bytes, ...]
    unfinished: bytes | None
    refused: int | None


def read(pieces: list[bytes]) -> Reading:
    reader = RequestReader()
    messages: list[Message] = []
    targets: list[bytes] = []
    body = b""
    try:
        for piece in pieces:
            data = piece
            while True:
                body += reader.feed(data)
                if not reader.complete:
                    break
                assert reader.request is not None
                targets.append(reader.request.target)
                messages.append(Message(reader.request.method, tuple(reader.request.headers), body))
                body = b""
                if not (data := reader.next()):
                    break
    except BadRequest as error:
        return Reading(tuple(messages), tuple(targets), None, error.status)
    return Reading(tuple(messages), tuple(targets), body if reader.request is not None else None, None)


def h11_read(data: bytes) -> tuple[list[Message], list[bytes], bool]:
    """The messages, their targets, and whether h11 has an opinion on what follows: it refuses trailers that are
    named like framing, which others read over (RFC 9110 §6.5.1)."""
    messages: list[Message] = []
    targets: list[bytes] = []
    while True:
        while data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112 §2.2, which h11 leaves to its caller
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(data)
        body: bytes | None = None
        try:
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                return messages, targets, True
            body = b""
            while not isinstance(part := connection.next_event(), h11.EndOfMessage):
                if not isinstance(part, h11.Data):
                    return messages, targets, True
                body += bytes(part.data)
        except h11.RemoteProtocolError as error:
            return messages, targets, body is None or not ABOUT_FRAMING.search(str(error))
        headers = tuple((bytes(name), bytes(value)) for name, value in request.headers)
        messages.append(Message(request.method, headers, body))
        targets.append(request.target)
        data = connection.trailing_data[0]


ABOUT_FRAMING = re.compile("(?i)content-length|transfer-encoding")
#: RFC 9112 §7.1.1 has blanks there ("BWS"); h11 has not.
BLANK_BEFORE_EXTENSION = re.compile(rb"[0-9A-Fa-f][ \t]+;")


def as_h11_can(data: bytes) -> bytes:
    """h11 has no bytes above ASCII in targets; they are read over here and belong to another test."""
    return bytes(byte if byte < 0x80 else 0x7E for byte in data)


@THOROUGH
@given(mangled(MESSAGES).map(as_h11_can))
def test_it_refuses_or_reads_what_h11_reads(data: bytes) -> None:
    assume(not BLANK_BEFORE_EXTENSION.search(data))
    ours = read([data])
    messages, targets, sure = h11_read(data)
    count = len(ours.messages) if sure else min(len(ours.messages), len(messages))
    event(f"messages: {min(count, 3)}, refused: {ours.refused is not None}")
    assert [comparable(message) for message in ours.messages[:count]] == messages[:count]
    assert list(ours.targets[:count]) == [origin_form(target) for target in targets[:count]]
    if ours.refused is None:
        assert len(messages) == count, "h11 sees one more message"


def comparable(message: Message) -> Message:
    """h11 writes `chunked` in lower case."""
    headers = tuple((n, v.lower() if n == b"transfer-encoding" else v) for n, v in message.headers)
    return Message(message.method, headers, message.body)


def origin_form(target: bytes) -> bytes:
    if target.startswith(b"/") or target == b"*":
        return target
    _, _, behind = target.partition(b"://")
    begin = min(behind.find(mark) % (len(behind) + 1) for mark in (b"/", b"?"))
    return behind[begin:] if behind[begin : begin + 1] == b"/" else b"/" + behind[begin:]


@THOROUGH
@given(st.data())
def test_pieces_do_not_matter(data: st.DataObject) -> None:
    raw = data.draw(mangled(MESSAGES))
    pieces = data.draw(cut(raw))
    whole, cut_up = read([raw]), read(pieces)
    # Of two faults the one that is seen first may give the status, never the verdict.
    assert (cut_up.refused is None) == (whole.refused is None)
    assert replace(cut_up, refused=None) == replace(whole, refused=None)


@THOROUGH
@given(st.binary(max_size=200), st.data())
def test_it_survives_anything(raw: bytes, data: st.DataObject) -> None:
    reading = read(data.draw(cut(raw)))
    assert reading.refused in (None, 400, 405, 414, 417, 431, 501, 505)


TOKEN = st.text("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12)
VALUE = st.text("".join(map(chr, (*range(0x21, 0x7F), *range(0xA1, 0x100)))), max_size=20)
OTHER = TOKEN.filter(
    lambda name: (
        name not in {"host", "content-length", "transfer-encoding", "expect", "connection", "upgrade"}
    )
)


@st.composite
def valid(draw: st.DrawFn) -> tuple[bytes, Message, bytes]:
    """A message as h11 writes it, and what it is."""
    method = draw(
        st.sampled_from(("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "QUERY", "M-X"))
    )
    target = "/" + draw(st.text("".join(map(chr, range(0x21, 0x7F))), max_size=20)).replace("#", "")
    fields = [("host", draw(st.sampled_from(("x", "", "x:80", "[::1]"))))]
    fields += draw(st.lists(st.tuples(OTHER, VALUE), max_size=5))
    body = b"".join(parts := draw(st.lists(st.binary(min_size=1, max_size=30), max_size=4)))
    fields.append(
        ("transfer-encoding", "chunked") if draw(st.booleans()) else ("content-length", str(len(body)))
    )
    client = h11.Connection(h11.CLIENT)
    headers = [(name.encode(), value.encode("latin-1")) for name, value in fields]
    raw = client.send(h11.Request(method=method, target=target, headers=headers)) or b""
    for part in parts:
        raw += client.send(h11.Data(data=part)) or b""
    raw += client.send(h11.EndOfMessage()) or b""
    return raw, Message(method.encode(), tuple(headers), body), target.encode()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(valid(), min_size=1, max_size=3), st.data())
def test_what_h11_writes_is_read(written: list[tuple[bytes, Message, bytes]], data: st.DataObject) -> None:
    reading = read(data.draw(cut(b"".join(raw for raw, _, _ in written))))
    assert reading.refused is None
    assert reading.messages == tuple(message for _, message, _ in written)
    assert reading.targets == tuple(target for _, _, target in written)


@given(
    st.text("".join(map(chr, sorted({*range(0x21, 0x100)} - {0x23, 0x7F})))).map(
        lambda text: text.encode("latin-1")
    )
)
def test_targets_are_kept_byte_for_byte(part: bytes) -> None:
    assert read([b"GET /" + part + b" HTTP/1.1\r\nHost: x\r\n\r\n"]).targets == (b"/" + part,)
