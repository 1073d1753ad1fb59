"""Our way through asyncssh's connection against asyncssh's own: the same packets, cut anywhere, do the same."""

import asyncio
import os
import random
import socket as socket_module
import struct
import time
from collections.abc import Callable
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_DISCONNECT,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
)
from asyncssh.crypto import GCMCipher
from asyncssh.encryption import GCMEncryption
from asyncssh.packet import Boolean, SSHPacket, String, UInt32
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.uv import LOOPS
from vastproxy.services.tunnels.aesgcm import AesGcm, adopted
from vastproxy.services.tunnels.base import Stream
from vastproxy.services.tunnels.channel import ChannelStream
from vastproxy.services.tunnels.fastpath import FastConnection
from vastproxy.services.tunnels.stream import DirectStream

KEY, IV = bytes(range(16)), bytes(range(50, 62))
WINDOW = 5000
STREAMS = 3


class Socket(asyncio.Transport):
    """The transport under a connection: keeps what is written, decrypted."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = b""
        self.writes = 0
        self.aborted = False
        self.reading: list[bool] = []

    def pause_reading(self) -> None:
        self.reading.append(False)

    def resume_reading(self) -> None:
        self.reading.append(True)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = high

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1
        self.raw += data

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def payloads(self) -> list[bytes]:
        """What was sent, but for the empty packets that asyncssh sends ahead of each one."""
        cipher, rest, found = GCMCipher("aes128-gcm", KEY, IV), self.raw, []
        while rest:
            size = int.from_bytes(rest[:4], "big")
            assert (size % 16, rest[4 + size + 16 :] == b"" or size >= 16) == (0, True)
            plain = cipher.verify_and_decrypt(rest[:4], rest[4 : 4 + size], rest[4 + size : 20 + size])
            assert plain is not None
            assert plain[0] >= 4
            if plain[1] != MSG_IGNORE:
                found.append(plain[1 : len(plain) - plain[0]])
            rest = rest[20 + size :]
        return found


class Protocol(asyncio.Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received = b""
        self.stream: Stream

    def connection_made(self, transport: Stream) -> None:  # type: ignore[override]
        self.stream = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.events.append(f"eof after {len(self.received)}")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(f"lost {type(exc).__name__}")


def sealed(payloads: list[bytes]) -> bytes:
    """The bytes that a server would send."""
    cipher, found = GCMCipher("aes128-gcm", KEY, IV), b""
    for payload in payloads:
        padding = -(1 + len(payload)) % 16
        padding += 16 if padding < 4 else 0
        plain = bytes((padding,)) + payload + bytes(padding)
        found += b"".join(cipher.encrypt_and_sign(len(plain).to_bytes(4, "big"), plain))
    return found


async def logged_in(kind: type[asyncssh.SSHClientConnection]) -> tuple[Any, Socket]:
    """A connection as it is after the login, with AES-GCM both ways."""
    loop = asyncio.get_running_loop()
    options = asyncssh.SSHClientConnectionOptions(
        config=None,
        host="h",
        port=22,
        username="u",
        client_keys=[],
        agent_path=None,
        known_hosts=([], [], []),
        login_timeout=0,
        keepalive_interval=60,
    )
    options.waiter = loop.create_future()
    options.waiter.add_done_callback(lambda waiter: waiter.exception())  # nobody waits for the login
    conn: Any = kind(loop, options)
    socket = Socket()
    conn.connection_made(socket)
    await asyncio.sleep(0)
    socket.raw, socket.writes = b"", 0
    conn._auth_complete = conn._kex_complete = True
    conn._recv_handler = conn._recv_pkthdr
    conn._recv_blocksize = conn._send_blocksize = conn._recv_macsize = 16
    conn._send_enchdrlen = 1
    conn._rekey_time = time.monotonic() + 3600
    for side in ("_recv_encryption", "_send_encryption"):
        cipher = GCMEncryption(GCMCipher("aes128-gcm", KEY, IV))
        setattr(conn, side, adopted(cipher) if kind is FastConnection else cipher)
    return conn, socket


async def with_streams(conn: Any, count: int = STREAMS) -> list[Protocol]:
    """Open streams whose numbers on the other side are 100, 101, …"""
    loop, protocols = asyncio.get_running_loop(), []
    for number in range(count):
        if isinstance(conn, FastConnection):
            direct = DirectStream(conn, Protocol, lambda exc: exc or ConnectionError(), loop, window=WINDOW)
            opening: Any = direct.begin("localhost", 80)
        else:
            stream = ChannelStream(Protocol, lambda exc: exc, loop)
            opening = asyncio.ensure_future(  # noqa: TID251
                conn.create_connection(
                    lambda stream=stream: stream, "localhost", 80, encoding=None, window=WINDOW
                )
            )
            await asyncio.sleep(0)
        conn._channels[number].process_open_confirmation(100 + number, 2000, 700, SSHPacket(b""))
        opened = await opening
        protocols.append(opened if isinstance(opened, Protocol) else opened[1].protocol)
        await asyncio.sleep(0)
    return protocols


def data(number: int, content: bytes) -> bytes:
    return struct.pack(">BII", MSG_CHANNEL_DATA, number, len(content)) + content


def messages(rng: random.Random) -> list[bytes]:
    """What a server may say: data for streams, and whatever else may come between."""
    open_ones, found, room = list(range(STREAMS)), [], [WINDOW] * STREAMS
    for _ in range(rng.randrange(1, 60)):
        number = rng.choice(open_ones) if open_ones else None
        kind = rng.randrange(12)
        if number is None or kind == 0:
            found.append(bytes((MSG_IGNORE,)) + String(rng.randbytes(rng.randrange(50))))
        elif kind == 1:
            request = String(b"keepalive@openssh.com") + Boolean(True)
            found.append(bytes((MSG_GLOBAL_REQUEST,)) + request)
        elif kind == 2:
            found.append(bytes((MSG_CHANNEL_WINDOW_ADJUST,)) + UInt32(number) + UInt32(rng.randrange(3000)))
        elif kind == 3:
            found.append(struct.pack(">BI", MSG_CHANNEL_REQUEST, number) + String(b"what") + Boolean(True))
        elif kind == 4:
            open_ones.remove(number)
            found.append(struct.pack(">BI", MSG_CHANNEL_EOF, number))
            found.append(struct.pack(">BI", MSG_CHANNEL_CLOSE, number))
        elif kind == 5:
            found.append(bytes((200,)) + b"a message that nobody knows")
        else:
            size = min(rng.choice([0, 1, 15, 16, 17, 300, 2600]), room[number])
            room[number] -= size
            room[number] = WINDOW if room[number] < WINDOW / 2 else room[number]
            found.append(data(number, rng.randbytes(size)))
    return found


def joined(payloads: list[bytes]) -> list[bytes]:
    """Without what is free: where a stream's data is cut, and in what portions new room is given."""
    found: list[bytes] = []
    for payload in payloads:
        if payload[0] == MSG_CHANNEL_WINDOW_ADJUST:
            continue
        if payload[0] != MSG_CHANNEL_DATA:
            found.append(payload)
        elif found and found[-1][:5] == payload[:5]:
            found[-1] += payload[9:]
        else:
            found.append(payload[:5] + payload[9:])
    return found


async def played(kind: type[asyncssh.SSHClientConnection], seed: int) -> object:
    """What streams and server get to see when a random dialogue is cut into random pieces."""
    rng = random.Random(seed)
    conn, socket = await logged_in(kind)
    protocols = await with_streams(conn)
    incoming, at = sealed(messages(rng)), 0
    while at < len(incoming):
        size = rng.choice([1, 2, 3, 5, 16, 36, 100, 5000, 50_000])
        conn.data_received(incoming[at : at + size])
        at += size
        if rng.random() < 0.2:
            protocol = rng.choice(protocols)
            protocol.stream.write(rng.randbytes(rng.choice([1, 300, 1500])))
        if rng.random() < 0.1:
            await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    seen = [(protocol.received, [*protocol.events]) for protocol in protocols]
    found = seen, joined(socket.payloads()), conn._recv_seq, len(conn._channels)
    conn.abort()
    await conn.wait_closed()
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_a_dialogue_cut_anywhere_is_what_asyncssh_makes_of_it(seed: int) -> None:
    """Same data, ends and answers, in the same order, and the same sequence number for the next packet."""

    async def compare() -> None:
        assert await played(FastConnection, seed) == await played(asyncssh.SSHClientConnection, seed)

    asyncio.run(compare())


async def ended(
    payloads: list[bytes], spoil: Callable[[bytes], bytes] = lambda raw: raw
) -> tuple[str, list[Protocol]]:
    """The reason that the server is given when it says something wrong; what its streams saw."""
    conn, socket = await logged_in(FastConnection)
    protocols = await with_streams(conn)
    socket.raw, first = b"", len(socket.payloads())
    conn.data_received(spoil(sealed(payloads)))
    await conn.wait_closed()
    assert socket.aborted
    sent = GCMCipher("aes128-gcm", KEY, IV)
    for _ in range(first):
        sent._update_iv()
    plain = sent.verify_and_decrypt(socket.raw[:4], socket.raw[4:-16], socket.raw[-16:])
    assert plain is not None
    assert plain[1] == MSG_DISCONNECT
    packet = SSHPacket(plain[6:])
    return packet.get_string().decode(), protocols


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]


@pytest.mark.parametrize("at", [-1, -17, -40])
async def test_a_changed_packet_ends_the_connection_and_gives_nothing_away(at: int) -> None:
    reason, protocols = await ended(
        [data(0, b"good"), data(0, b"bad" * 20)], lambda raw: flipped(len(raw) + at)(raw)
    )
    assert reason == "MAC verification failed"
    assert protocols[0].received == b"good"
    assert protocols[0].events in (["lost MACError"], ["lost ProtocolError"])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (data(0, b"x" * (WINDOW + 1)), "Window exceeded"),
        (data(99, b"x"), "Invalid channel number 99"),
        (data(0, b"x") + b"more", "Unexpected data at end of packet"),
        (data(0, b"xxxx")[:-1], "Incomplete packet"),
        (bytes((MSG_CHANNEL_DATA, 0)), "Incomplete channel request"),
        (bytes((MSG_CHANNEL_DATA,)), "Incomplete channel request"),
    ],
)
async def test_a_server_that_breaks_the_rules_is_told_so_and_left(message: bytes, reason: str) -> None:
    found, protocols = await ended([data(0, b"good"), message, data(0, b"never seen")])
    assert found.startswith(reason)
    assert protocols[0].received == b"good"
    assert protocols[0].events in (["lost MACError"], ["lost ProtocolError"])


async def test_a_packet_that_is_too_long_ends_the_connection_before_it_has_come() -> None:
    conn, _ = await logged_in(FastConnection)
    conn.data_received((1 << 20).to_bytes(4, "big") + b"x" * 32)
    await conn.wait_closed()


async def test_what_is_sent_in_one_turn_is_one_write() -> None:
    conn, socket = await logged_in(FastConnection)
    protocols = await with_streams(conn)
    await asyncio.sleep(0)
    before, socket.writes = len(socket.payloads()), 0
    for protocol in protocols:
        protocol.stream.write(b"question")
    assert socket.writes == 0
    await asyncio.sleep(0)
    assert (socket.writes, len(socket.payloads()) - before) == (1, STREAMS)
    conn.abort()
    await conn.wait_closed()


async def test_streams_wait_in_line_while_the_socket_is_full() -> None:
    """Nothing is sent for them until it takes more, then each gets its turn; other messages go out at once."""
    conn, socket = await logged_in(FastConnection)
    protocols = await with_streams(conn)
    await asyncio.sleep(0)
    conn.pause_writing()
    before = len(socket.payloads())
    for protocol in protocols:
        protocol.stream.write(b"one")
        protocol.stream.write(b"two")
    conn.data_received(sealed([data(0, b"x" * 3000)]))
    await asyncio.sleep(0)
    assert [payload[0] for payload in socket.payloads()[before:]] == [MSG_CHANNEL_WINDOW_ADJUST]
    conn.resume_writing()
    await asyncio.sleep(0)
    assert socket.payloads()[before + 1 :] == [data(100 + n, b"onetwo") for n in range(STREAMS)]
    conn.abort()
    await conn.wait_closed()


async def test_a_line_that_fills_the_socket_again_goes_on_where_it_stopped() -> None:
    conn, _ = await logged_in(FastConnection)
    turns: list[str] = []

    def take(name: str) -> Callable[[], None]:
        def turn() -> None:
            turns.append(name)
            conn.pause_writing()

        return turn

    conn.pause_writing()
    for name in "abc":
        conn.call_when_free(take(name))
    for _ in range(5):
        conn.resume_writing()
    assert turns == ["a", "b", "c"]
    conn.abort()
    await conn.wait_closed()


async def test_much_at_once_is_not_kept_until_the_turn_ends() -> None:
    """A quarter of a megabyte is written at once, so that the socket can say when it is full."""
    conn, socket = await logged_in(FastConnection)
    (protocol,) = await with_streams(conn, 1)
    conn._channels[0]._credit = 10_000_000
    protocol.stream.write(b"x" * 1_000_000)
    assert len(socket.raw) > 700_000
    conn.abort()
    await conn.wait_closed()


async def test_new_keys_are_due_by_bytes_and_by_time() -> None:
    """asyncssh begins the exchange, and what is sent meanwhile waits until it is over."""
    for due in ("_rekey_bytes_sent", "_rekey_time"):
        conn, socket = await logged_in(FastConnection)
        (protocol,) = await with_streams(conn, 1)
        await asyncio.sleep(0)
        sent = len(socket.payloads())
        setattr(conn, due, 1 << 40 if due == "_rekey_bytes_sent" else 0.0)
        protocol.stream.write(b"later")
        await asyncio.sleep(0)
        (kexinit,) = socket.payloads()[sent:]
        assert kexinit[0] == 20
        assert conn._deferred_packets == [(MSG_CHANNEL_DATA, (data(100, b"later")[1:],))]
        conn.abort()
        await conn.wait_closed()


@pytest.mark.parametrize("key_bytes", [16, 32])
async def test_the_cipher_is_asyncsshs_cipher(key_bytes: int) -> None:
    """Each decrypts what the other encrypts, over the wrap of the counter (RFC 5647 §7.1)."""
    key, iv = os.urandom(key_bytes), b"abcd" + b"\xff" * 7 + b"\xfd"
    name = f"aes{8 * key_bytes}-gcm"
    ours, theirs = (
        (AesGcm(key, iv), AesGcm(key, iv)),
        (GCMEncryption(GCMCipher(name, key, iv)) for _ in range(2)),
    )
    there, back = theirs
    for number in range(6):
        plain = os.urandom(32)
        header = (32).to_bytes(4, "big")
        raw = b"".join(ours[0].encrypt_packet(number, header, plain))
        assert there.decrypt_packet(number, raw[:16], raw[16:-16], 4, raw[-16:]) == plain
        raw = b"".join(back.encrypt_packet(number, header, plain))
        assert ours[1].decrypt_header(number, raw[:16], 4) == (raw[:16], raw[:4])
        assert ours[1].decrypt_packet(number, raw[:16], raw[16:-16], 4, raw[-16:]) == plain
    assert ours[1].decrypt_packet(0, b"x" * 16, b"x" * 32, 4, b"x" * 16) is None


async def test_our_names_hide_none_of_asyncsshs() -> None:
    """What we add to its connection is not something that it has itself."""
    meant = {"data_received", "send_packet", "send_newkeys", "_send", "connection_made"}
    meant |= {
        "pause_writing",
        "resume_writing",
        "disconnect",
        "log_sent_packet",
        "log_received_packet",
        "__init__",
    }
    stock, _ = await logged_in(asyncssh.SSHClientConnection)
    ours, _ = await logged_in(FastConnection)
    taken = set(vars(stock)) | set(dir(asyncssh.SSHClientConnection))
    assert {
        name for name, value in vars(FastConnection).items() if name in taken and callable(value)
    } == meant
    assert not ({*vars(ours)} - {*vars(stock)}) & taken
    for conn in (stock, ours):
        conn.abort()
        await conn.wait_closed()


async def test_a_server_may_not_open_channels_to_us() -> None:
    conn, socket = await logged_in(FastConnection)
    conn.data_received(
        sealed(
            [
                bytes((MSG_CHANNEL_OPEN,))
                + String(b"x11")
                + UInt32(1)
                + UInt32(1)
                + UInt32(1)
                + String(b"")
                + UInt32(0)
            ]
        )
    )
    await asyncio.sleep(0)
    assert [payload[0] for payload in socket.payloads()] == [92]
    conn.abort()
    await conn.wait_closed()


@pytest.mark.parametrize("begun", [0, 3, 15, 16, 17, 40, 200])
async def test_what_asyncssh_had_begun_to_read_is_taken_over(begun: int) -> None:
    """While it agrees on new keys it keeps what comes; afterwards it may stand anywhere within a packet."""
    conn, _ = await logged_in(FastConnection)
    protocols = await with_streams(conn, 1)
    contents = [bytes((n,)) * 100 for n in range(5)]
    incoming = sealed([data(0, content) for content in contents])
    conn._recv_handler = lambda: False
    conn.data_received(incoming[:begun])
    assert protocols[0].received == b""
    conn._recv_handler = conn._recv_pkthdr
    if begun:
        conn._recv_data()  # what asyncssh does when it has finished
    conn.data_received(incoming[begun:-20])
    conn.data_received(incoming[-20:])
    assert protocols[0].received == b"".join(contents)
    assert conn._recv_seq == 5
    conn.abort()
    await conn.wait_closed()


async def test_after_a_large_read_others_have_a_turn_before_the_next() -> None:
    """A line that was stuck and then comes in megabytes must not hold up everybody else."""
    conn, socket = await logged_in(FastConnection)
    await with_streams(conn, 1)
    conn.data_received(sealed([data(0, b"x" * 1000)]))
    assert socket.reading == []
    conn.data_received(sealed([bytes((MSG_IGNORE,)) + String(b"x" * 1000)] * 70))
    assert socket.reading == [False]
    await asyncio.sleep(0)
    assert socket.reading == [False, True]
    conn.abort()
    await conn.wait_closed()


async def test_nobody_reads_on_from_what_has_ended_meanwhile() -> None:
    conn, socket = await logged_in(FastConnection)
    conn.data_received(sealed([bytes((MSG_IGNORE,)) + String(b"x" * 1000)] * 70))
    socket.abort()
    await asyncio.sleep(0)
    assert socket.reading == [False]
    conn.abort()
    await conn.wait_closed()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_backlog_of_megabytes_lets_others_have_their_turns(loop: str) -> None:
    """Between any two reads of a full socket somebody else has a turn; uvloop would make 32 of them at once."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(_most_bytes_in_one_turn()) <= 262_144


async def _most_bytes_in_one_turn() -> int:
    """What a connection is given of 4 MB that wait for it, before a callback has its turn."""
    loop, total, most, in_turn = asyncio.get_running_loop(), 4_000_000, 0, 0
    over = asyncio.Event()
    conn, _ = await logged_in(FastConnection)

    class Counting(asyncio.Protocol):
        """The connection, counted."""

        seen = 0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            conn._socket = transport

        def data_received(self, data: bytes) -> None:
            nonlocal most, in_turn
            if not in_turn:
                loop.call_soon(others)
            in_turn += len(data)
            most = max(most, in_turn)
            conn._parts, conn._parts_needed = [b""], 1 << 40  # of one endless packet
            conn.data_received(data)
            Counting.seen += len(data)
            if Counting.seen == total:
                over.set()

    def others() -> None:
        nonlocal in_turn
        in_turn = 0

    with socket_module.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, 8_000_000)
        ours = socket_module.create_connection(server.getsockname())
        theirs, _ = server.accept()
        with ours, theirs:
            ours.setblocking(False)
            sending = loop.run_in_executor(None, theirs.sendall, bytes(total))
            transport, _ = await loop.create_connection(Counting, sock=ours)
            async with asyncio.timeout(20):
                await over.wait()
                await sending
            transport.close()
    return most
