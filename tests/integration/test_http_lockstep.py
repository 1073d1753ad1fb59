"""The tools of the corpus do what they promise: a cut is a cut, and bytes that are open to doubt are seen."""

import asyncio
from typing import cast

import pytest

from tests.corpus.cases import Seen, passed
from tests.helpers.fronts import Front
from tests.helpers.lockstep import Lockstep
from tests.helpers.recording import SENTINEL, RecordingEngine, answer_to
from tests.helpers.replay import every_cut, play_request
from tests.helpers.uv import BOTH_LOOPS
from tests.helpers.wire import Message, MessageReader, NotStrict, as_h11_reads, read_answers

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Counting(asyncio.Protocol):
    """A server that writes down each read, and answers as an engine would."""

    def __init__(self, reads: list[list[bytes]]) -> None:
        self._all = reads
        self._mine: list[bytes] = []
        self._reader = MessageReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._mine:
            self._all.append(self._mine)
        self._mine.append(data)
        for message in self._reader.feed(data):
            self._transport.write(answer_to(message))


@BOTH_LOOPS
async def test_every_cut_makes_two_reads() -> None:
    reads: list[list[bytes]] = []
    case = passed("x", GET, Seen("GET", "/a"), source="x")
    server = await asyncio.get_running_loop().create_server(lambda: Counting(reads), "127.0.0.1", 0)
    async with server, RecordingEngine() as engine:
        port = server.sockets[0].getsockname()[1]
        async with Lockstep(port) as step:
            played = await play_request(case, Front(port, engine, step, patience_s=5), every_cut(GET))
    assert {outcome.end for _, outcome in played.outcomes} == {"kept"}
    pieces = [read for read in reads if b"/livez" not in read[0]]
    cuts = {cut: read for (cut, _), read in zip(played.outcomes, sorted(pieces, key=first), strict=True)}
    assert {cut: read[:2] for cut, read in cuts.items() if cut < len(GET)} == {
        cut: [GET[:cut], GET[cut:]] for cut in range(1, len(GET))
    }
    assert cuts[len(GET)][0] == GET


def first(read: list[bytes]) -> int:
    return len(read[0])


@pytest.mark.parametrize(
    "raw",
    [
        GET.replace(b"\r\nHost", b"\nHost"),
        GET.replace(b"x\r\n", b"x\r\n folded\r\n"),
        GET.replace(b"Host: x", b"Host : x"),
        GET.replace(b"Host: x\r\n", b""),
        GET.replace(b"x\r\n", b"x\r\nHost: y\r\n"),
        GET.replace(b"x\r\n", b"x\r\nX-V: a\0b\r\n"),
        GET.replace(b"x\r\n", b"x\r\nX-V: a \r\n"),
        GET.replace(b"x\r\n", b"x\r\nContent-Length: +0\r\n"),
        GET.replace(b"x\r\n", b"x\r\nContent-Length: 00\r\n"),
        GET.replace(b"x\r\n", b"x\r\nContent-Length: 0\r\nContent-Length: 0\r\n"),
        GET.replace(b"x\r\n", b"x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
        GET.replace(b"x\r\n", b"x\r\nTransfer-Encoding: Chunked\r\n") + b"0\r\n\r\n",
        GET.replace(b"x\r\n", b"x\r\nTransfer-Encoding: chunked\r\n") + b"3;a\r\nabc\r\n0\r\n\r\n",
        GET.replace(b"x\r\n", b"x\r\nTransfer-Encoding: chunked\r\n") + b"3\r\nabcd\r\n0\r\n\r\n",
        GET.replace(b"x\r\n", b"x\r\nTransfer-Encoding: chunked\r\n") + b"0\r\nX: y\r\n\r\n",
        GET.replace(b"1.1", b"1.0"),
        GET.replace(b" /a ", b"  /a "),
    ],
)
def test_doubtful_requests_are_not_strict(raw: bytes) -> None:
    with pytest.raises(NotStrict):
        MessageReader().feed(raw)


def test_h11_agrees_on_borders_or_says_so() -> None:
    chunked = GET.replace(b"x\r\n", b"x\r\nTransfer-Encoding: chunked\r\n") + b"3\r\nabc\r\n0\r\n\r\n"
    assert as_h11_reads(chunked + GET) == ("GET", "/a", b"abc", GET)
    assert MessageReader().feed(chunked + GET) == [
        Message("GET", "/a", (("Host", "x"), ("Transfer-Encoding", "chunked")), b"abc"),
        Message("GET", "/a", (("Host", "x"),), b""),
    ]
    with pytest.raises(NotStrict):
        as_h11_reads(GET.replace(b"Host: x\r\n", b""))


def test_answers_are_told_from_what_follows_and_from_what_is_missing() -> None:
    answers, rest = read_answers(OK + OK[:-1], ("GET", "GET", "GET"), closed=True)
    assert [(a.status, a.body, a.complete) for a in answers] == [(200, b"ok", True), (200, b"o", False)]
    assert rest == b""
    answers, rest = read_answers(OK + SENTINEL, ("GET", "GET"), closed=True)
    assert (len(answers), rest) == (1, SENTINEL)
    for doubtful in (
        OK.replace(b"OK\r\n", b"OK\n"),
        OK.replace(b"Length:", b"Length :"),
        b"HTTP/1.1 99 X\r\n\r\n",
    ):
        with pytest.raises(NotStrict):
            read_answers(doubtful, ("GET",), closed=True)
