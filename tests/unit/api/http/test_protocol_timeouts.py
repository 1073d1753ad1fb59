"""What a client may take its time for, and for how long: sending nothing, sending slowly, not reading."""

import asyncio

import pytest

from tests.helpers.connected import Connected, echo, get, post, settle

pytestmark = pytest.mark.virtual_time

IDLE_S, HEADER_S, BODY_S, WRITE_S = 75.0, 30.0, 60.0, 300.0


# ── timeouts ───────────────────────────────────────────────────────────────────────────────────


async def test_who_sends_nothing_is_let_go_without_a_word() -> None:
    connected = Connected()
    await asyncio.sleep(HEADER_S - 1)
    assert not connected.transport.is_closing()
    await asyncio.sleep(2)
    assert connected.transport.closed
    assert connected.transport.written == b""
    assert connected.state.connections == set()


async def test_a_head_byte_by_byte_is_a_408() -> None:
    """The limit is from its first byte, however many follow."""
    connected = Connected()
    await asyncio.sleep(HEADER_S - 1)
    for byte in b"GET /aaaaaaaa":
        connected.transport.send(bytes([byte]))
        await asyncio.sleep(HEADER_S / 10)
        if connected.transport.written:
            break
    assert connected.transport.written.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"\r\nconnection: close\r\n" in connected.transport.written
    assert b"client_header_timeout_s" in connected.transport.written
    assert connected.refusals[0].status == 408
    assert asyncio.get_running_loop().time() <= 2 * HEADER_S + 3


async def test_blank_lines_are_no_sign_of_life() -> None:
    connected = Connected()
    for _ in range(40):
        if connected.transport.is_closing():
            break
        connected.transport.send(b"\r\n")
        await asyncio.sleep(1)
    assert connected.transport.is_closing()


async def test_between_requests_it_is_longer() -> None:
    connected = Connected(on_request=echo)
    connected.transport.send(get())
    await asyncio.sleep(IDLE_S - 1)
    connected.transport.send(get())
    await asyncio.sleep(IDLE_S - 1)
    assert not connected.transport.is_closing()
    await asyncio.sleep(2)
    assert connected.transport.closed
    assert connected.refusals == []


async def test_the_second_head_has_its_time_too() -> None:
    connected = Connected(on_request=echo)
    connected.transport.send(get() + b"GET /slow")
    await asyncio.sleep(HEADER_S + 1)
    assert b"HTTP/1.1 408 " in connected.transport.written


async def test_silence_within_a_body_is_a_408() -> None:
    connected = Connected(client_body_min_rate=0)
    connected.transport.send(post(b"Content-Length: 100"))
    for _ in range(3):
        await asyncio.sleep(BODY_S - 1)
        connected.transport.send(b"x")
    await asyncio.sleep(BODY_S + 1)
    assert connected.handler.error is not None
    assert connected.handler.error.status == 408
    assert b"client_body_timeout_s" in connected.transport.written


@pytest.mark.parametrize(("rate", "in_time"), [(0, True), (1, True), (2, False)])
async def test_a_body_has_to_come_at_a_certain_rate(rate: float, in_time: bool) -> None:
    """However much came at once before: that buys no more than one silence."""
    connected = Connected(client_body_min_rate=rate)
    connected.transport.send(post(b"Content-Length: 10000") + b"x" * 5_000)
    for _ in range(5):
        await asyncio.sleep(BODY_S / 2)
        connected.transport.send(b"x" * int(BODY_S / 2 + 1))
    assert (connected.handler.error is None) is in_time


async def test_the_frame_of_a_chunk_is_not_the_body() -> None:
    """Who sends an endless size line, byte by byte, sends nothing."""
    connected = Connected()
    connected.transport.send(post(b"Transfer-Encoding: chunked"))
    for _ in range(7):
        connected.transport.send(b"0")
        await asyncio.sleep(BODY_S / 6)
    assert connected.handler.error is not None
    assert connected.handler.calls == ["begin", "failed"]


async def test_an_answer_has_all_the_time_it_needs() -> None:
    connected = Connected()
    connected.transport.send(get())
    await asyncio.sleep(10_000)
    connected.answer()
    assert connected.transport.written.endswith(b"ok")


# ── clients that do not read ───────────────────────────────────────────────────────────────────


async def test_a_client_that_takes_no_byte_is_gone() -> None:
    connected = Connected()
    connected.transport.send(get())
    connected.begin_answer()
    connected.transport.stall()
    await asyncio.sleep(WRITE_S - 1)
    assert not connected.transport.is_closing()
    await asyncio.sleep(2)
    assert connected.transport.aborted
    assert connected.handler.left


async def test_a_client_that_takes_a_little_is_there() -> None:
    connected = Connected()
    connected.transport.send(get())
    connected.begin_answer()
    connected.transport.stall()
    for _ in range(5):
        connected.transport.unsent -= 1
        await asyncio.sleep(WRITE_S)
    assert not connected.transport.is_closing()
    connected.transport.take()
    await asyncio.sleep(2 * WRITE_S)
    assert not connected.transport.is_closing()
    connected.transport.stall()
    connected.transport.unsent = 0  # all of it went out without our being told
    await asyncio.sleep(2 * WRITE_S)
    assert not connected.transport.is_closing()


@pytest.mark.parametrize("stalled", [True, False])
async def test_the_rest_of_an_answer_does_not_keep_a_closing_connection_for_ever(stalled: bool) -> None:
    """Whether or not it was so much that more would have had to wait."""
    connected = Connected()
    connected.transport.send(get(b"/", b"Connection: close"))
    if stalled:
        connected.transport.stall()
    connected.transport.unsent = 100
    connected.answer()
    assert connected.transport.closed
    await asyncio.sleep(WRITE_S + 1)
    assert connected.transport.aborted


@pytest.mark.parametrize("answered", [True, False])
async def test_a_client_that_ends_its_half_and_does_not_read_is_not_kept_for_ever(answered: bool) -> None:
    connected = Connected()
    connected.transport.send(get())
    if answered:
        connected.answer()
    else:
        connected.begin_answer(b"a")
    connected.transport.unsent = 100
    connected.transport.finish()
    assert connected.transport.closed
    await asyncio.sleep(WRITE_S + 1)
    assert connected.transport.aborted


async def test_a_closing_connection_that_is_read_in_the_end() -> None:
    connected = Connected()
    connected.transport.send(get(b"/", b"Connection: close"))
    connected.transport.stall()
    connected.answer()
    await asyncio.sleep(10)
    connected.transport.take()
    await settle()
    assert not connected.transport.aborted
    assert connected.transport.lost


async def test_who_waits_to_be_asked_for_the_body_has_its_time_from_then_on() -> None:
    """An engine may take minutes to invite it."""
    connected = Connected()
    connected.transport.send(post(b"Content-Length: 3\r\nExpect: 100-continue"))
    await asyncio.sleep(3 * BODY_S)
    assert connected.transport.written == b""
    connected.protocol.interim(100, b"")
    await asyncio.sleep(BODY_S - 1)
    assert connected.handlers[0].calls == ["begin"]
    await asyncio.sleep(2)
    assert connected.handlers[0].calls == ["begin", "failed"]
