"""How a client's connection ends: refusals, lingering, breaking off, shutdown, clients that leave."""

import asyncio

import pytest

from tests.helpers.client_transport import ClientTransport
from tests.helpers.connected import Connected, echo, get, post, settle
from vastproxy.api.http.link import LINGER_S, LINGER_SILENCE_S

pytestmark = pytest.mark.virtual_time


# ── refusals and lingering ─────────────────────────────────────────────────────────────────────


async def test_what_is_no_request_is_answered_and_read_over() -> None:
    """The answer must not be lost to a reset because of bytes that nobody read."""
    connected = Connected()
    connected.transport.send(b"GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\nmore")
    assert connected.transport.written.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"malformed_request"' in connected.transport.written
    assert b"\r\nconnection: close\r\n" in connected.transport.written
    assert connected.handlers == []
    assert connected.transport.eof_written
    assert not connected.transport.is_closing()
    connected.transport.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")  # whatever it is
    assert connected.handlers == []
    connected.transport.finish()
    assert connected.transport.closed


async def test_a_malformed_rest_of_a_body_goes_to_who_is_answering() -> None:
    connected = Connected()
    connected.transport.send(post(b"Transfer-Encoding: chunked", body=b"xyz\r\n"))
    assert connected.handlers == []
    assert connected.refusals[0].status == 400
    connected = Connected()
    connected.transport.send(post(b"Transfer-Encoding: chunked"))
    connected.transport.send(b"xyz\r\n")
    assert connected.handler.error is not None
    assert connected.handler.error.status == 400
    assert connected.transport.eof_written


async def test_an_early_answer_ends_the_connection_after_the_client_has_seen_it() -> None:
    connected = Connected()
    connected.transport.send(post(b"Content-Length: 1000", body=b"part"))
    connected.protocol.pause_reading()
    connected.answer(status=413)
    assert b"\r\nconnection: close\r\n" in connected.transport.written
    assert connected.transport.eof_written
    assert connected.transport.reading
    assert not connected.transport.is_closing()
    await asyncio.sleep(LINGER_SILENCE_S + 1)
    assert connected.transport.aborted


async def test_lingering_has_two_limits() -> None:
    """A client that goes on sending is read over for a while, not for ever."""
    connected = Connected()
    connected.transport.send(post(b"Content-Length: 1000"))
    connected.answer(status=413)
    began = asyncio.get_running_loop().time()
    while not connected.transport.is_closing():
        connected.transport.send(b"x")
        await asyncio.sleep(LINGER_SILENCE_S - 1)
    took_s = asyncio.get_running_loop().time() - began
    assert LINGER_S - 1 <= took_s <= LINGER_S + LINGER_SILENCE_S


async def test_lingering_does_not_cut_off_an_answer_that_is_still_being_read() -> None:
    """Silence of a client is none as long as it has something to read."""
    connected = Connected()
    connected.transport.send(post(b"Content-Length: 1000"))
    connected.transport.stall()
    connected.answer(b"x" * 100_000)
    await asyncio.sleep(LINGER_SILENCE_S + 1)
    assert not connected.transport.aborted
    connected.transport.unsent = 0
    connected.transport.take()
    await asyncio.sleep(LINGER_S + LINGER_SILENCE_S)
    assert connected.transport.is_closing()


async def test_an_upload_that_ends_during_an_early_answer_needs_no_lingering() -> None:
    connected = Connected()
    connected.transport.send(post(b"Content-Length: 5"))
    connected.begin_answer(b"a")
    assert b"\r\nconnection: close\r\n" in connected.transport.written
    connected.transport.send(b"hello")
    connected.protocol.finish(b"b")
    assert connected.transport.closed


async def test_where_half_a_connection_cannot_be_closed_it_is_closed() -> None:
    connected = Connected(transport=ClientTransport(tls=True, half_close=False))
    connected.transport.send(b"nonsense\r\n\r\n")
    assert b"HTTP/1.1 400 " in connected.transport.written
    assert connected.transport.closed


# ── breaking off ───────────────────────────────────────────────────────────────────────────────


async def test_a_chunked_answer_breaks_off_without_its_last_chunk() -> None:
    connected = Connected()
    connected.transport.send(get())
    connected.begin_answer(b"one")
    connected.protocol.break_off(b"event")
    assert connected.transport.written.endswith(b"3\r\none\r\n5\r\nevent\r\n")
    assert connected.transport.closed
    assert not connected.transport.socket.resets
    connected.protocol.finish(b"more")  # too late
    assert connected.transport.written.endswith(b"event\r\n")


async def test_an_answer_of_known_length_breaks_off_short_of_it() -> None:
    connected = Connected()
    connected.transport.send(get())
    connected.protocol.respond(200, b"content-length: 5\r\n", length=5, data=b"he")
    connected.protocol.break_off()
    assert connected.transport.written.endswith(b"\r\n\r\nhe")
    assert connected.transport.closed


async def test_an_answer_that_the_end_of_the_connection_would_end_is_reset() -> None:
    """Else half of it would be taken for the whole."""
    connected = Connected()
    connected.transport.send(get(version=b"1.0"))
    connected.begin_answer(b"half")
    connected.protocol.break_off()
    assert connected.transport.socket.resets
    assert connected.transport.aborted


async def test_breaking_off_before_an_answer_is_an_end_without_one() -> None:
    connected = Connected()
    connected.transport.send(get())
    connected.protocol.break_off()
    assert connected.transport.written == b""
    assert connected.transport.closed


# ── clients that leave ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["fin", "lost", "reset"])
@pytest.mark.parametrize("when", ["in the body", "before the answer", "in the answer"])
async def test_a_client_that_leaves_is_told_of_once(how: str, when: str) -> None:
    connected = Connected()
    connected.transport.send(post(b"Content-Length: 5", body=b"" if when == "in the body" else b"hello"))
    if when == "in the answer":
        connected.begin_answer(b"one")
    if how == "fin":
        connected.transport.finish()
    connected.transport.lose(ConnectionResetError() if how == "reset" else None)
    assert connected.handler.left
    assert connected.handler.calls.count("left") == 1
    assert connected.state.connections == set()
    assert not connected.protocol.at_work
    written = connected.transport.written
    connected.protocol.finish(b"more")
    assert connected.transport.written == written


async def test_a_client_that_leaves_between_requests() -> None:
    connected = Connected(on_request=echo)
    connected.transport.send(get())
    connected.transport.finish()
    await settle()
    assert connected.transport.lost
    assert connected.handler.calls == ["begin"]


async def test_who_leaves_with_requests_waiting_is_not_answered() -> None:
    connected = Connected()
    connected.transport.send(get(b"/1") + get(b"/2"))
    connected.answer()
    connected.transport.finish()
    await settle()
    assert connected.targets == [b"/1"]


# ── the server's end ───────────────────────────────────────────────────────────────────────────


async def test_an_idle_connection_ends_with_the_server() -> None:
    for begun in (b"", b"GET /"):
        connected = Connected()
        if begun:
            connected.transport.send(begun)
        connected.protocol.shutdown()
        assert connected.transport.closed
        assert connected.transport.written == b""
    connected = Connected(on_request=echo)
    connected.transport.send(get())
    connected.protocol.shutdown()
    assert connected.transport.closed


@pytest.mark.parametrize("answering", [False, True])
async def test_a_request_is_answered_before_the_server_ends(answering: bool) -> None:
    connected = Connected()
    connected.transport.send(get(b"/1"))
    if answering:
        connected.begin_answer(b"a")
    assert connected.protocol.at_work
    connected.protocol.shutdown()
    assert not connected.transport.is_closing()
    if answering:
        connected.protocol.finish(b"b")
    else:
        connected.answer()
        assert b"\r\nconnection: close\r\n" in connected.transport.written
    assert connected.transport.closed


@pytest.mark.parametrize("why", ["the server ends", "the client wanted it"])
async def test_requests_behind_the_last_one_are_read_over(why: str) -> None:
    """They are not answered, and they do not make the last answer be lost to a reset."""
    connected = Connected()
    last = get(b"/1") if why == "the server ends" else get(b"/1", b"Connection: close")
    connected.transport.send(last + get(b"/2"))
    if why == "the server ends":
        connected.protocol.shutdown()
    connected.answer()
    assert b"\r\nconnection: close\r\n" in connected.transport.written
    assert connected.transport.eof_written
    connected.transport.send(get(b"/3"))
    await settle()
    assert connected.targets == [b"/1"]
    connected.transport.finish()
    assert connected.transport.closed


async def test_the_server_ends_while_a_request_waits_for_its_turn() -> None:
    connected = Connected()
    connected.transport.send(get(b"/1") + get(b"/2"))
    connected.answer()
    connected.protocol.shutdown()
    await settle()
    assert connected.transport.closed
    assert connected.targets == [b"/1"]


async def test_a_pipe_is_at_work() -> None:
    connected = Connected()
    connected.transport.send(get(b"/", b"Connection: upgrade", b"Upgrade: x"))
    connected.protocol.switch(b"")
    connected.protocol.shutdown()
    assert connected.protocol.at_work
    assert not connected.transport.is_closing()


async def test_lingering_ends_with_the_server() -> None:
    connected = Connected()
    connected.transport.send(b"nonsense\r\n\r\n")
    connected.protocol.shutdown()
    assert connected.transport.closed
    await asyncio.sleep(100)
    assert connected.transport.lost
    assert connected.protocol.transport is connected.transport


async def test_a_connection_that_never_was() -> None:
    connected = Connected()
    connected.transport.lose()
    connected.protocol.shutdown()
    connected.protocol.pause_reading()
    connected.protocol.resume_reading()
    await asyncio.sleep(1000)
    assert connected.transport.written == b""


@pytest.mark.parametrize(("version", "resets"), [(b"1.0", True), (b"1.1", False)])
async def test_the_server_ends_at_once_and_no_answer_looks_whole(version: bytes, resets: bool) -> None:
    """Where the end of the connection ends the body, only a reset tells that it is not the end."""
    connected = Connected()
    connected.transport.send(b"GET / HTTP/%b\r\nHost: h\r\n\r\n" % version)
    connected.protocol.respond(200, b"", length=None, data=b"half")
    connected.protocol.abort()
    assert connected.transport.is_closing()
    assert connected.transport.socket.resets is resets
