"""Our own channels, with the connection played by the test: windows, ends, and what real sshd does not provoke."""

import asyncio
import gc
import struct
import weakref
from collections.abc import Callable

import asyncssh
import pytest
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from asyncssh.packet import Boolean, SSHPacket, String, UInt32
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.tunnels.base import Stream
from vastproxy.services.tunnels.stream import DirectStream

WINDOW = 1000
PEER = 77
KB = 1024


class Wire:
    """The connection: keeps what is sent on it."""

    def __init__(self) -> None:
        self.is_congested = False
        self.sent: list[tuple[int, bytes]] = []
        self.channels: list[object] = []
        self.waiting: list[Callable[[], None]] = []

    def add_channel(self, chan: object) -> int:
        self.channels.append(chan)
        return 5

    def remove_channel(self, recv_chan: int) -> None:
        assert recv_chan == 5
        self.channels.pop()

    def send_message(self, head: bytes, data: bytes | bytearray = b"") -> None:
        self.sent.append((head[0], head[1:] + data))

    def call_when_free(self, flush: Callable[[], None]) -> None:
        self.waiting.append(flush)

    def data(self) -> bytes:
        """All data sent, after a look at each message's channel and length."""
        found = b""
        for kind, body in self.sent:
            if kind == MSG_CHANNEL_DATA:
                channel, size = struct.unpack_from(">II", body)
                assert (channel, size) == (PEER, len(body) - 8)
                found += body[8:]
        return found

    def kinds(self) -> list[int]:
        return [kind for kind, _ in self.sent]

    def given_room(self) -> list[int]:
        return [
            int.from_bytes(body[4:], "big") for kind, body in self.sent if kind == MSG_CHANNEL_WINDOW_ADJUST
        ]


class Protocol(asyncio.Protocol):
    def __init__(self, fails_in: str = "", keep_open: bool = True) -> None:
        self.fails_in = fails_in
        self.keep_open = keep_open
        self.events: list[str] = []
        self.received = b""
        self.stream: Stream

    def _note(self, event: str) -> None:
        self.events.append(event)
        if event.split()[0] == self.fails_in:
            raise RuntimeError(event)

    def connection_made(self, transport: Stream) -> None:  # type: ignore[override]
        self.stream = transport
        self._note("made")

    def data_received(self, data: bytes) -> None:
        assert data
        assert type(data) is bytes
        self.received += data
        self._note("data")

    def eof_received(self) -> bool:
        self._note("eof")
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self._note(f"lost {exc!r}")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")


def begun(
    factory: Callable[[], Protocol] = Protocol, window: int = WINDOW
) -> tuple[DirectStream[Protocol], Wire, "asyncio.Future[Protocol]"]:
    wire, loop = Wire(), asyncio.get_running_loop()
    stream = DirectStream(wire, factory, lambda exc: ConnectionError(repr(exc)), loop, window=window)
    return stream, wire, stream.begin("localhost", 8000)


def opened(
    factory: Callable[[], Protocol] = Protocol,
    *,
    window: int = WINDOW,
    credit: int = 100 * KB,
    most: int = 32 * KB,
) -> tuple[DirectStream[Protocol], Wire, Protocol]:
    stream, wire, opening = begun(factory, window)
    stream.process_open_confirmation(PEER, credit, most, SSHPacket(b""))
    wire.sent.clear()
    return stream, wire, opening.result()


def tell(stream: DirectStream[Protocol], kind: int, body: bytes = b"") -> None:
    assert stream.process_packet(kind, 0, SSHPacket(body))


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_what_is_asked_for() -> None:
    """RFC 4254 §7.2, with the window that was set and no word about who the client is."""
    stream, wire, opening = begun()
    assert wire.sent == [
        (
            MSG_CHANNEL_OPEN,
            String("direct-tcpip")
            + UInt32(5)
            + UInt32(WINDOW)
            + UInt32(32_768)
            + String("localhost")
            + UInt32(8000)
            + String("")
            + UInt32(0),
        )
    ]
    assert not opening.done()
    stream.process_open_confirmation(PEER, 1, 1, SSHPacket(b""))
    assert (await opening).events == ["made"]


async def test_a_refusal_reaches_whoever_opens() -> None:
    stream, wire, opening = begun()
    stream.process_open_failure(2, "no such port", "")
    with pytest.raises(asyncssh.ChannelOpenError, match="no such port"):
        await opening
    assert not wire.channels


@pytest.mark.parametrize("how", ["confirmed", "refused", "lost"])
async def test_an_abandoned_opening_makes_no_protocol_and_leaves_no_channel(how: str) -> None:
    made: list[Protocol] = []

    def factory() -> Protocol:
        made.append(Protocol())
        return made[-1]

    stream, wire, opening = begun(factory)
    opening.cancel()
    stream.abandon()
    if how == "confirmed":
        stream.process_open_confirmation(PEER, 1, 1, SSHPacket(b""))
        assert wire.kinds() == [MSG_CHANNEL_OPEN, MSG_CHANNEL_CLOSE]
        assert stream.accept(b"data that was under way")
        tell(stream, MSG_CHANNEL_CLOSE)
    elif how == "refused":
        stream.process_open_failure(2, "", "")
    else:
        stream.process_connection_close(None)
    await settle()
    assert (made, wire.channels) == ([], [])


async def test_an_opening_abandoned_in_the_moment_of_success_is_aborted() -> None:
    stream, wire, protocol = opened()
    stream.abandon()
    await settle()
    assert protocol.events == ["made", "lost None"]
    assert wire.kinds() == [MSG_CHANNEL_CLOSE]


async def test_the_connections_end_fails_an_opening_and_ends_a_stream() -> None:
    stream, wire, opening = begun()
    stream.process_connection_close(OSError("cable"))
    with pytest.raises(asyncssh.ChannelOpenError):
        await opening
    other, wire, protocol = opened()
    other.process_connection_close(OSError("cable"))
    assert protocol.events == ["made", "lost ConnectionError(\"OSError('cable')\")"]
    other.write(b"too late")
    other.write_eof()
    other.close()
    other.abort()
    await settle()
    assert (wire.sent, wire.channels, len(protocol.events)) == ([], [], 2)


async def test_a_factory_that_raises_takes_the_channel_with_it() -> None:
    stream, wire, opening = begun(lambda: Protocol("made"))
    stream.process_open_confirmation(PEER, 1, 1, SSHPacket(b""))
    with pytest.raises(RuntimeError, match="made"):
        await opening
    tell(stream, MSG_CHANNEL_CLOSE)
    await settle()
    assert (wire.kinds(), wire.channels) == ([MSG_CHANNEL_OPEN, MSG_CHANNEL_CLOSE], [])


async def test_data_is_cut_to_the_other_sides_largest_packet_and_window() -> None:
    stream, wire, protocol = opened(credit=250, most=100)
    stream.write(bytes(range(256)) * 2)
    assert [len(body) - 8 for _, body in wire.sent] == [100, 100, 50]
    stream.write_eof()
    tell(stream, MSG_CHANNEL_WINDOW_ADJUST, UInt32(1000))
    assert wire.data() == bytes(range(256)) * 2
    assert wire.kinds()[-1] == MSG_CHANNEL_EOF
    stream.write(b"after the end")
    assert wire.data() == bytes(range(256)) * 2
    assert protocol.events == ["made"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_what_was_written_may_change_afterwards(kind: Callable[[bytearray], bytes]) -> None:
    """Also while it waits for room."""
    stream, wire, _ = opened(credit=3)
    given = bytearray(b"abcdef")
    stream.write(kind(given))
    given[:] = b"------"
    tell(stream, MSG_CHANNEL_WINDOW_ADJUST, UInt32(10))
    assert wire.data() == b"abcdef"


async def test_a_writer_is_paused_while_much_waits_and_resumed_once() -> None:
    stream, wire, protocol = opened(credit=0)
    stream.write(b"x" * 64 * KB)
    assert protocol.events == ["made"]
    stream.write(b"x")
    stream.write(b"x")
    assert protocol.events == ["made", "pause"]
    tell(stream, MSG_CHANNEL_WINDOW_ADJUST, UInt32(30 * KB))
    assert protocol.events == ["made", "pause"]
    tell(stream, MSG_CHANNEL_WINDOW_ADJUST, UInt32(30 * KB))
    assert protocol.events == ["made", "pause", "resume"]
    tell(stream, MSG_CHANNEL_WINDOW_ADJUST, UInt32(30 * KB))
    assert len(wire.data()) == 64 * KB + 2


async def test_a_full_socket_holds_back_data_and_nothing_else() -> None:
    """The stream waits for its turn once, and sends what is left in its turn."""
    stream, wire, protocol = opened()
    wire.is_congested = True
    stream.write(b"one")
    stream.write(b"two")
    stream.write_eof()
    stream.accept(b"x" * 200)
    assert wire.kinds() == [MSG_CHANNEL_WINDOW_ADJUST]
    assert len(wire.waiting) == 1
    wire.is_congested = False
    wire.waiting.pop()()
    assert wire.data() == b"onetwo"
    assert wire.kinds()[-1] == MSG_CHANNEL_EOF
    assert not wire.waiting
    assert protocol.events == ["made", "data"]


async def test_close_sends_what_was_written_before_it_ends() -> None:
    stream, wire, protocol = opened(credit=2)
    stream.write(b"abcd")
    stream.close()
    stream.close()
    assert stream.is_closing()
    await settle()
    assert protocol.events == ["made"]
    tell(stream, MSG_CHANNEL_WINDOW_ADJUST, UInt32(10))
    await settle()
    assert wire.data() == b"abcd"
    assert wire.kinds()[-1] == MSG_CHANNEL_CLOSE
    assert protocol.events == ["made", "lost None"]
    assert stream.accept(b"still under way")
    assert wire.channels, "the other side has not closed yet"
    tell(stream, MSG_CHANNEL_EOF)
    tell(stream, MSG_CHANNEL_CLOSE)
    await settle()
    assert protocol.events == ["made", "lost None"]
    assert not wire.channels
    assert wire.kinds().count(MSG_CHANNEL_CLOSE) == 1


async def test_a_close_that_waits_for_room_ends_when_the_other_side_closes() -> None:
    stream, wire, protocol = opened(credit=0)
    stream.write(b"never")
    stream.close()
    tell(stream, MSG_CHANNEL_CLOSE)
    await settle()
    assert protocol.events == ["made", "lost None"]
    assert (wire.kinds(), wire.channels) == ([MSG_CHANNEL_CLOSE], [])


async def test_abort_ends_at_once_and_drops_what_waits() -> None:
    stream, wire, protocol = opened(credit=0)
    stream.write(b"never")
    stream.abort()
    stream.abort()
    stream.pause_reading()
    await settle()
    assert protocol.events == ["made", "lost None"]
    assert wire.kinds() == [MSG_CHANNEL_CLOSE]
    tell(stream, MSG_CHANNEL_WINDOW_ADJUST, UInt32(10))
    assert wire.data() == b""


async def test_the_ends_come_in_order_and_after_all_data() -> None:
    """EOF and CLOSE wait until a paused owner has taken everything."""
    stream, wire, protocol = opened()
    stream.pause_reading()
    stream.accept(b"rest")
    tell(stream, MSG_CHANNEL_EOF)
    tell(stream, MSG_CHANNEL_CLOSE)
    await settle()
    assert protocol.events == ["made"]
    assert (wire.kinds(), wire.channels) == ([MSG_CHANNEL_CLOSE], [])
    stream.resume_reading()
    assert protocol.events == ["made"], "never inside resume_reading"
    await settle()
    assert protocol.events == ["made", "data", "eof", "lost None"]


async def test_an_end_without_eof_is_preceded_by_one() -> None:
    stream, _, protocol = opened()
    tell(stream, MSG_CHANNEL_CLOSE)
    await settle()
    assert protocol.events == ["made", "eof", "lost None"]


async def test_a_protocol_that_does_not_stay_is_closed_at_eof() -> None:
    stream, wire, protocol = opened(lambda: Protocol(keep_open=False))
    tell(stream, MSG_CHANNEL_EOF)
    await settle()
    assert protocol.events == ["made", "eof", "lost None"]
    assert wire.kinds() == [MSG_CHANNEL_CLOSE]


async def test_a_pause_right_after_a_resume_wins() -> None:
    stream, _, protocol = opened()
    stream.pause_reading()
    stream.accept(b"x")
    stream.resume_reading()
    stream.pause_reading()
    await settle()
    assert protocol.events == ["made"]
    stream.resume_reading()
    stream.resume_reading()
    await settle()
    assert protocol.events == ["made", "data"]


@pytest.mark.parametrize("where", ["data", "held data", "eof", "pause", "resume"])
async def test_a_protocol_that_raises_ends_its_stream_with_that_error(where: str) -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: reports.append(context["exception"])
    )
    stream, wire, protocol = opened(lambda: Protocol(where.split()[-1]), credit=0)
    if where == "data":
        assert stream.accept(b"x")
    elif where == "held data":
        stream.pause_reading()
        stream.accept(b"x")
        stream.resume_reading()
    elif where == "eof":
        tell(stream, MSG_CHANNEL_EOF)
        tell(stream, MSG_CHANNEL_CLOSE)
    else:
        stream.write(b"x" * 65 * KB)
        if where == "resume":
            tell(stream, MSG_CHANNEL_WINDOW_ADJUST, UInt32(64 * KB))
    await settle()
    assert protocol.events[-1].startswith("lost RuntimeError")
    assert wire.kinds()[-1] == MSG_CHANNEL_CLOSE
    assert [type(report) for report in reports] == [RuntimeError]


async def test_a_protocol_that_raises_at_its_end_is_reported() -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: reports.append(context["exception"])
    )
    stream, _, _ = opened(lambda: Protocol("lost"))
    stream.abort()
    await settle()
    assert [str(report) for report in reports] == ["lost None"]


async def test_more_than_the_window_is_not_taken() -> None:
    stream, _, protocol = opened()
    stream.pause_reading()
    assert stream.accept(b"x" * WINDOW)
    assert not stream.accept(b"x")
    with pytest.raises(asyncssh.ProtocolError):
        tell(stream, MSG_CHANNEL_DATA, String(b"x"))
    assert protocol.received == b""


async def test_nothing_is_taken_that_may_not_come() -> None:
    """Before the channel is open, after its end, and messages that do not belong there end the connection."""
    early, _, _ = begun()
    assert not early.accept(b"x")
    with pytest.raises(asyncssh.ProtocolError):
        tell(early, MSG_CHANNEL_EOF)
    stream, _, _ = opened()
    with pytest.raises(asyncssh.ProtocolError, match="not being opened"):
        stream.process_open_confirmation(PEER, 1, 1, SSHPacket(b""))
    with pytest.raises(asyncssh.ProtocolError, match="not being opened"):
        stream.process_open_failure(1, "", "")
    for kind in (MSG_CHANNEL_EXTENDED_DATA, MSG_CHANNEL_SUCCESS):
        with pytest.raises(asyncssh.ProtocolError):
            tell(stream, kind, UInt32(1) + String(b"x"))
    tell(stream, MSG_CHANNEL_EOF)
    assert not stream.accept(b"x")
    tell(stream, MSG_CHANNEL_CLOSE)
    with pytest.raises(asyncssh.ProtocolError):
        tell(stream, MSG_CHANNEL_CLOSE)


async def test_a_request_is_refused_when_an_answer_is_wanted() -> None:
    """sshd asks for a sign of life on any open channel."""
    stream, wire, _ = opened()
    tell(stream, MSG_CHANNEL_REQUEST, String(b"keepalive@openssh.com") + Boolean(True))
    tell(stream, MSG_CHANNEL_REQUEST, String(b"whatever") + Boolean(False))
    assert wire.sent == [(MSG_CHANNEL_FAILURE, UInt32(PEER))]


async def test_data_that_asyncssh_hands_over_is_taken_too() -> None:
    stream, _, protocol = opened()
    tell(stream, MSG_CHANNEL_DATA, String(b"while new keys are agreed on"))
    tell(stream, MSG_CHANNEL_DATA, String(b""))
    assert protocol.received == b"while new keys are agreed on"


STEPS = st.lists(
    st.one_of(st.integers(0, WINDOW), st.sampled_from(["pause", "resume", "turn"])), min_size=1, max_size=60
)


@given(STEPS)
def test_whatever_a_reader_does_no_byte_is_lost_and_the_window_bounds_what_is_held(
    steps: list[int | str],
) -> None:
    """The other side always has window minus unread bytes to send, or is told so once an eighth is used."""

    async def play() -> None:
        stream, wire, protocol = opened()
        sent = b""
        for step in steps:
            room = WINDOW + sum(wire.given_room()) - len(sent)
            assert len(sent) - len(protocol.received) + room <= WINDOW
            if isinstance(step, int):
                data = bytes((len(sent) + n) % 251 for n in range(min(step, room)))
                assert stream.accept(data)
                sent += data
            elif step == "pause":
                stream.pause_reading()
            elif step == "resume":
                stream.resume_reading()
            else:
                await settle()
            assert protocol.received == sent[: len(protocol.received)]
        stream.pause_reading()
        stream.resume_reading()
        await settle()
        assert protocol.received == sent
        assert WINDOW + sum(wire.given_room()) - len(sent) >= WINDOW * 7 // 8

    asyncio.run(play())


async def test_an_ended_stream_leaves_nothing_for_the_garbage_collector() -> None:
    """Owner and stream refer to each other while it lives, and not any longer."""
    stream, _, protocol = opened()
    gone = weakref.ref(protocol)
    stream.abort()
    await settle()
    gc.collect()
    gc.disable()
    try:
        del protocol
        assert gone() is None
    finally:
        gc.enable()
