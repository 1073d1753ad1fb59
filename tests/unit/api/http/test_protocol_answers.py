"""Requests and answers on one connection: frames, keep-alive, pipelining, interim answers, another protocol."""

import asyncio
import itertools

import pytest

from tests.helpers.client_transport import ClientTransport
from tests.helpers.connected import Connected, echo, get, post, settle
from tests.helpers.recording_client import RecordingHandler
from vastproxy.api.http.protocol import MAX_AHEAD_BYTES

pytestmark = pytest.mark.virtual_time


async def test_who_the_client_is() -> None:
    assert (Connected().protocol.peer, Connected().protocol.scheme) == ("203.0.113.7", "http")
    tls = Connected(transport=ClientTransport(peername=("::1", 1, 0, 0), tls=True)).protocol
    assert (tls.peer, tls.scheme) == ("::1", "https")
    assert Connected(transport=ClientTransport(peername="")).protocol.peer == ""


async def test_a_request_and_its_answer_in_one_write() -> None:
    connected = Connected(on_request=echo)
    connected.transport.send(get(b"/a?b"))
    assert connected.transport.writes == [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n/a?b"]
    assert connected.handler.calls == ["begin"]
    assert connected.handler.complete
    assert connected.state.total_requests == 1
    assert not connected.transport.is_closing()


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_body_comes_as_it_is_sent(size: int) -> None:
    connected = Connected()
    for head, framed in (
        (post(b"Content-Length: 5"), b"hello"),
        (post(b"Transfer-Encoding: chunked"), b"2\r\nhe\r\n3\r\nllo\r\n0\r\nx: y\r\n\r\n"),
    ):
        data = head + framed
        for at in range(0, len(data), size):
            connected.transport.send(data[at : at + size])
        assert (connected.handler.body, connected.handler.complete) == (b"hello", True)
        connected.answer()
    assert len(connected.handlers) == 2


async def test_a_head_is_begun_before_its_body_is_there() -> None:
    connected = Connected()
    connected.transport.send(post(b"Content-Length: 5"))
    assert connected.handler.calls == ["begin"]
    assert not connected.handler.complete
    assert connected.protocol.at_work
    connected.transport.send(b"hello")
    assert connected.handler.complete


# ── frames ─────────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_of_unknown_length_is_chunked() -> None:
    connected = Connected()
    connected.transport.send(get())
    connected.begin_answer(b"one")
    connected.protocol.send(b"two")
    connected.protocol.send(b"")
    connected.protocol.send(b"x" * 20_000)
    connected.protocol.finish(b"end", [(b"x-t", b"1")])
    assert connected.transport.written == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n4e20\r\n"
        + b"x" * 20_000
        + b"\r\n3\r\nend\r\n0\r\n\r\n"
    )
    connected.transport.send(get())
    assert len(connected.handlers) == 2


async def test_an_answer_of_unknown_length_in_one_piece() -> None:
    connected = Connected()
    connected.transport.send(get())
    connected.protocol.respond(200, b"", length=None, data=b"all", last=True)
    assert connected.transport.writes[0].endswith(b"\r\n\r\n3\r\nall\r\n0\r\n\r\n")


@pytest.mark.parametrize(("te", "sent"), [(b"TE: trailers", b"0\r\nx-t: 1\r\n\r\n"), (b"X: y", b"0\r\n\r\n")])
async def test_trailers_are_for_who_takes_them(te: bytes, sent: bytes) -> None:
    connected = Connected()
    connected.transport.send(get(b"/", te))
    connected.begin_answer()
    connected.protocol.finish(b"", [(b"x-t", b"1")])
    assert connected.transport.written.endswith(b"\r\n\r\n" + sent)


async def test_an_answer_of_known_length_is_not_framed() -> None:
    connected = Connected()
    connected.transport.send(get(b"/", b"TE: trailers"))
    connected.protocol.respond(200, b"content-length: 5\r\n", length=5, data=b"he")
    connected.protocol.send(b"")
    connected.protocol.finish(b"llo", [(b"x-t", b"1")])
    assert connected.transport.written.endswith(b"content-length: 5\r\n\r\nhello")


async def test_an_answer_without_a_body_has_no_frame() -> None:
    connected = Connected()
    connected.transport.send(get())
    connected.protocol.respond(304, b"content-length: 5\r\n", length=None, has_body=False, last=True)
    assert connected.transport.written == b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"
    connected.transport.send(get())
    assert len(connected.handlers) == 2


@pytest.mark.parametrize(
    ("asked", "keeps", "token"),
    [
        (get(version=b"1.1"), True, None),
        (get(b"/", b"Connection: close"), False, b"close"),
        (get(b"/", version=b"1.0"), False, b"close"),
        (get(b"/", b"Connection: keep-alive", version=b"1.0"), True, b"keep-alive"),
    ],
)
async def test_who_keeps_the_connection(asked: bytes, keeps: bool, token: bytes | None) -> None:
    connected = Connected(on_request=echo)
    connected.transport.send(asked)
    written = connected.transport.written
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert written.count(b"connection:") == (token is not None)
    assert token is None or b"\r\nconnection: %b\r\n" % token in written
    assert connected.transport.closed is not keeps


@pytest.mark.parametrize("line", [b"X: y", b"Connection: keep-alive"])
async def test_to_http_1_0_an_answer_of_unknown_length_ends_with_the_connection(line: bytes) -> None:
    connected = Connected()
    connected.transport.send(get(b"/", line, version=b"1.0"))
    connected.protocol.interim(103, b"")
    connected.begin_answer(b"one")
    connected.protocol.send(b"two")
    connected.protocol.finish(b"", [(b"a", b"b")])
    assert connected.transport.written == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nonetwo"
    assert connected.transport.closed
    assert not connected.transport.socket.resets


async def test_interim_answers_come_before_the_answer_and_never_after() -> None:
    connected = Connected()
    connected.transport.send(post(b"Content-Length: 5", b"Expect: 100-continue"))
    connected.protocol.interim(100, b"")
    connected.protocol.interim(103, b"link: a\r\n")
    assert (
        connected.transport.taken()
        == b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"
    )
    connected.begin_answer()
    connected.transport.taken()
    connected.protocol.interim(102, b"")
    assert connected.transport.written == b""


# ── one after another ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [1, 20, 10_000])
async def test_pipelined_requests_are_answered_in_order(size: int) -> None:
    connected = Connected(on_request=echo)
    targets = [b"/%d" % number for number in range(20)]
    data = b"".join(map(get, targets))
    for at in range(0, len(data), size):
        connected.transport.send(data[at : at + size])
    await asyncio.sleep(0.1)
    assert connected.targets == targets
    assert connected.transport.written.split(b"\r\n\r\n")[1:-1] == [
        target + b"HTTP/1.1 200 OK\r\ncontent-length: %d" % len(following)
        for target, following in itertools.pairwise(targets)
    ]


async def test_a_pipelined_request_waits_for_the_answer_before_it() -> None:
    connected = Connected()
    connected.transport.send(get(b"/1") + get(b"/2"))
    await settle()
    assert connected.targets == [b"/1"]
    connected.answer()
    await settle()
    assert connected.targets == [b"/1", b"/2"]


async def test_bytes_keep_their_order_when_an_answer_ends_between_them() -> None:
    """A request cut in two, and the answer to the one before it is out just when its second half comes."""
    connected = Connected()
    second = get(b"/2", b"X-Long: value")
    for cut in range(1, len(second)):
        connected.transport.send(get(b"/1") + second[:cut])
        connected.answer()
        connected.transport.send(second[cut:])
        await settle()
        assert connected.targets[-1] == b"/2"
        connected.answer()
        await settle()
    assert connected.refusals == []


async def test_a_thousand_pipelined_requests_do_not_call_each_other() -> None:
    connected = Connected(on_request=echo)
    connected.transport.send(get(b"/") * 2000)
    await asyncio.sleep(0.1)
    while len(connected.handlers) < 2000:
        await asyncio.sleep(0)
    assert connected.state.total_requests == 2000


async def test_what_is_kept_of_further_requests_is_bounded() -> None:
    """The rest stays in the kernel, until the answer is out."""
    connected = Connected()
    connected.transport.send(get(b"/1"))
    sent = 0
    while connected.transport.reading:
        connected.transport.send(get(b"/2", b"X: " + b"x" * 8000))
        sent += 8000
    assert MAX_AHEAD_BYTES <= sent <= MAX_AHEAD_BYTES + 8000
    connected.answer()
    await settle()
    assert connected.transport.reading
    assert connected.targets == [b"/1", b"/2"]


async def test_no_further_answer_is_made_for_who_does_not_read() -> None:
    """A client that pipelines and does not read has one answer in memory at a time."""
    connected = Connected(on_request=echo)
    connected.transport.stall()
    connected.transport.send(get(b"/1") + get(b"/2"))
    await asyncio.sleep(1)
    assert connected.targets == [b"/1"]
    connected.transport.take()
    await settle()
    assert connected.targets == [b"/1", b"/2"]


async def test_who_does_not_read_makes_the_handler_wait() -> None:
    connected = Connected()
    connected.transport.send(get())
    connected.begin_answer()
    assert not connected.protocol.write_paused
    connected.transport.stall()
    assert connected.protocol.write_paused
    connected.transport.take()
    assert not connected.protocol.write_paused
    assert connected.handler.calls == ["begin", "writable"]


async def test_a_handler_may_make_the_client_wait() -> None:
    connected = Connected(client_body_timeout_s=60)
    connected.transport.send(post(b"Content-Length: 10", body=b"12345"))
    connected.protocol.pause_reading()
    connected.protocol.pause_reading()
    assert not connected.transport.reading
    await asyncio.sleep(1000)  # that is not the client's silence
    assert connected.handler.error is None
    connected.protocol.resume_reading()
    connected.protocol.resume_reading()
    assert connected.transport.reading
    await asyncio.sleep(59)
    assert connected.handler.error is None
    connected.transport.send(b"67890")
    assert connected.handler.complete


# ── another protocol ───────────────────────────────────────────────────────────────────────────

UPGRADE = get(b"/ws", b"Connection: Upgrade", b"Upgrade: websocket")


async def piped(rest: bytes = b"") -> Connected:
    connected = Connected()
    connected.transport.send(UPGRADE + rest)
    connected.handler.complete = False  # of the request; what follows it has an end of its own
    connected.protocol.switch(b"connection: upgrade\r\nupgrade: websocket\r\n")
    return connected


async def test_after_a_switch_bytes_are_bytes() -> None:
    """Those that the client had sent already, too."""
    connected = await piped(b"\x00early")
    head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    assert connected.transport.taken() == head
    assert connected.handler.body == b"\x00early"
    connected.transport.send(b"GET / HTTP/1.1\r\n\r\n")
    assert connected.handler.body.endswith(b"GET / HTTP/1.1\r\n\r\n")
    connected.protocol.send(b"down")
    assert connected.transport.taken() == b"down"
    await asyncio.sleep(10_000)  # how long it may be silent is the engine's side's affair
    assert not connected.transport.is_closing()


async def test_the_client_of_a_pipe_may_end_its_half() -> None:
    connected = await piped()
    assert connected.protocol.eof_received() is True
    assert connected.handler.complete
    connected.protocol.send(b"still")
    assert connected.transport.written.endswith(b"still")
    connected.protocol.finish()
    assert connected.transport.closed


async def test_a_pipe_that_is_paused_and_lost() -> None:
    connected = await piped()
    connected.protocol.pause_reading()
    connected.transport.lose()
    assert connected.handler.left
    connected.protocol.resume_reading()
    assert connected.protocol.eof_received() is False


async def test_a_paused_client_reads_again_after_a_switch() -> None:
    def crowd(connected: Connected, handler: RecordingHandler) -> None:
        connected.protocol.pause_reading()

    connected = Connected(on_request=crowd)
    connected.transport.send(UPGRADE)
    assert not connected.transport.reading
    connected.protocol.switch(b"")
    assert connected.transport.reading


async def test_a_pipe_that_breaks_off() -> None:
    connected = await piped()
    connected.transport.taken()
    connected.protocol.break_off()
    assert connected.transport.is_closing()
    assert connected.transport.written == b""
