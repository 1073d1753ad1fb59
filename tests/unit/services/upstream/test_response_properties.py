"""Whatever bytes an engine sends in whatever pieces, the response reader either refuses them or yields exactly the
answer that h11 yields – complete when h11 says so and not otherwise – and what h11 writes, it never refuses.
"""

import re
from dataclasses import dataclass

import h11
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.corpus.responses import RESPONSES
from tests.helpers.mangled import cut, mangled
from vastproxy.services.errors import BackendProtocolError
from vastproxy.services.http1.headers import HOP_BY_HOP, RESPONSE_OURS
from vastproxy.services.upstream.response import Phase, ResponseReader

MESSAGES = tuple(case.raw for cases in RESPONSES.values() for case in cases if len(case.raw) < 500)
THOROUGH = settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Fields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Reading:
    """`status` 0: no final head has come. `headers`: those that travel."""

    interim: tuple[int, ...]
    status: int
    headers: Fields
    body: bytes
    complete: bool


REFUSED = Reading((), -1, (), b"", complete=False)


def read(pieces: list[bytes], *, head_only: bool, closed: bool) -> tuple[Reading, ResponseReader]:
    reader = ResponseReader()
    reader.begin(head_only=head_only)
    body = b""
    try:
        for piece in pieces:
            body += reader.feed(piece)
    except BackendProtocolError:
        return REFUSED, reader
    if closed:
        reader.end()
    head = reader.head
    interim = tuple(status for status, _ in reader.interim)
    status, headers = (head.status, tuple(head.headers)) if head is not None else (0, ())
    return Reading(interim, status, headers, body, reader.phase is Phase.DONE), reader


#: RFC 9112 §7.1.1 has blanks there ("BWS"); h11 has not.
BLANK_BEFORE_EXTENSION = re.compile(rb"[0-9A-Fa-f][ \t]+;")


def h11_read(data: bytes, *, head_only: bool, closed: bool) -> tuple[Reading, bytes]:
    """The answer, and what follows it. REFUSED also for an answer that the end of the connection cut short."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="HEAD" if head_only else "GET", target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if closed:
        connection.receive_data(b"")
    interim: list[int] = []
    status, body, complete = 0, b"", False
    fields: Fields = ()
    try:
        while not complete and (part := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(part, h11.InformationalResponse):
                interim.append(part.status_code)
            elif isinstance(part, h11.Response):
                status = part.status_code
                fields = tuple((bytes(name), bytes(value)) for name, value in part.headers)
            elif isinstance(part, h11.Data):
                body += bytes(part.data)
            elif isinstance(part, h11.EndOfMessage):
                complete = True
            else:
                break
    except h11.RemoteProtocolError:
        return REFUSED, b""
    return Reading(
        tuple(interim), status, travelling(fields, status), body, complete
    ), connection.trailing_data[0]


def travelling(fields: Fields, status: int) -> Fields:
    """What of an answer's headers is for the client, by RFC 9110 §7.6.1: not the connection's, not those it names."""
    named = {t.strip(b" \t").lower() for n, v in fields if n == b"connection" for t in v.split(b",")}
    never = HOP_BY_HOP | RESPONSE_OURS | {b"set-cookie"} | (named - {b"content-length"})
    never |= {b"content-length"} if status == 204 else set()
    return tuple((name, value) for name, value in fields if name not in never)


@THOROUGH
@given(mangled(MESSAGES, most=2), st.booleans(), st.booleans())
def test_it_refuses_or_reads_what_h11_reads(data: bytes, head_only: bool, closed: bool) -> None:
    ours, reader = read([data], head_only=head_only, closed=closed)
    theirs, rest = h11_read(data, head_only=head_only, closed=closed)
    event(f"refused: {ours is REFUSED}, complete: {ours.complete}")
    if ours is REFUSED or BLANK_BEFORE_EXTENSION.search(data):
        return
    if theirs is REFUSED and closed:
        assert not ours.complete, "we call complete what h11 calls cut short"
        return
    assert ours == theirs
    if ours.complete and rest:
        assert not reader.keep_alive, "bytes behind the answer would be taken for the next one"


@THOROUGH
@given(st.data(), st.booleans(), st.booleans())
def test_pieces_do_not_matter(data: st.DataObject, head_only: bool, closed: bool) -> None:
    raw = data.draw(mangled(MESSAGES, most=2))
    pieces = data.draw(cut(raw))
    whole, one = read([raw], head_only=head_only, closed=closed)
    cut_up, other = read(pieces, head_only=head_only, closed=closed)
    assert cut_up == whole
    if whole.complete:
        assert one.keep_alive == other.keep_alive


@THOROUGH
@given(st.binary(max_size=200), st.data())
def test_it_survives_anything(raw: bytes, data: st.DataObject) -> None:
    read(data.draw(cut(b"HTTP/1.1 200 OK\r\n" + raw)), head_only=False, closed=True)
    read(data.draw(cut(raw)), head_only=False, closed=True)


VALUE = st.text("".join(map(chr, (*range(0x21, 0x7F), *range(0xA1, 0x100)))), max_size=20)


@st.composite
def valid(draw: st.DrawFn) -> tuple[bytes, Reading]:
    """An answer as h11 writes it, and what it is."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    while server.next_event() is not h11.PAUSED and server.their_state is not h11.DONE:
        pass
    interim = draw(st.lists(st.sampled_from((100, 102, 103)), max_size=3))
    raw = b"".join(server.send(h11.InformationalResponse(status_code=s, headers=[])) or b"" for s in interim)
    status = draw(st.sampled_from((200, 201, 404, 429, 500, 599)))
    parts = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=4))
    body = b"".join(parts)
    names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=10).map("x{}".format)
    fields = [
        (n.encode(), v.encode("latin-1")) for n, v in draw(st.lists(st.tuples(names, VALUE), max_size=5))
    ]
    known = draw(st.booleans())
    fields.append((b"content-length", b"%d" % len(body)) if known else (b"transfer-encoding", b"chunked"))
    raw += server.send(h11.Response(status_code=status, headers=fields)) or b""
    for part in parts:
        raw += server.send(h11.Data(data=part)) or b""
    raw += server.send(h11.EndOfMessage()) or b""
    return raw, Reading(tuple(interim), status, travelling(tuple(fields), status), body, complete=True)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(valid(), st.data())
def test_what_h11_writes_is_read(written: tuple[bytes, Reading], data: st.DataObject) -> None:
    raw, expected = written
    reading, reader = read(data.draw(cut(raw)), head_only=False, closed=False)
    assert reading == expected
    assert reader.keep_alive
