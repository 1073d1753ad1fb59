"""The exchange over real sockets: silence, trickles, broken and endless answers, and whose key goes where."""

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from tests.helpers.deaf import deaf_port
from tests.unit.vastai.support import KEY, Clock, config
from vastproxy.vastai.errors import VastProtocolError, VastRejected, VastUnavailable
from vastproxy.vastai.transport import MAX_ERROR_BYTES, Call, Transport, make_session

CALL = Call("test", "GET", "/x", "test", "testing")
Script = Callable[[socket.socket, threading.Event], None]


class Server:
    """Reads one request per connection and lets the script answer; `over` is set when the test has ended."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.over = threading.Event()
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self.over.is_set():
                    return
                connection.settimeout(20)
                received = b""
                while b"\r\n\r\n" not in received and (piece := connection.recv(65536)):
                    received += piece
                self.requests.append(received)
                with suppress(OSError):  # the client may leave
                    self._script(connection, self.over)

    def close(self) -> None:
        self.over.set()
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join(20)
        self._listener.close()


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    server = Server(script)
    try:
        yield server
    finally:
        server.close()


def sending(*pieces: bytes) -> Script:
    def script(connection: socket.socket, over: threading.Event) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return script


@contextmanager
def transport(server: Server, *, clock: Clock | None = None, read_s: float = 10.0) -> Iterator[Transport]:
    # An environment's proxy must not come between the test and its server.
    session = make_session()
    session.trust_env = False
    with session:
        made = Transport(
            config(url=server.url, read_timeout_s=read_s),
            session=session,
            **({"clock": clock} if clock else {}),
        )
        yield made


def test_an_answer_in_pieces() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-Odd: 1\r\n\r\n"
    with serving(sending(head[:9], head[9:], b'{"a"', b":1}")) as server, transport(server) as ours:
        reply = ours.send(CALL)
        assert (reply.status, reply.json(), reply.headers["x-odd"]) == (200, {"a": 1}, "1")
        assert f"Authorization: Bearer {KEY}".encode() in server.requests[0]


def test_a_connection_is_used_again() -> None:
    """Also after an error: connecting anew costs more than the call."""
    answers = [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ]

    def twice(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(answers[0])
        assert connection.recv(65536)
        connection.sendall(answers[1])

    with serving(twice) as server, transport(server) as ours:
        assert [ours.send(CALL).status, ours.send(CALL).status] == [404, 200]
        assert len(server.requests) == 1


def test_a_chunked_answer() -> None:
    body = b"3\r\n[1,\r\n3\r\n 2]\r\n0\r\n\r\n"
    with (
        serving(sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body)) as server,
        transport(server) as ours,
    ):
        assert ours.send(CALL).json() == [1, 2]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTT",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
    ids=["nothing", "half a line", "short body", "short chunk", "bad gzip", "not http"],
)
def test_a_broken_answer_is_an_outage(answer: bytes) -> None:
    with (
        serving(sending(answer)) as server,
        transport(server) as ours,
        pytest.raises(VastUnavailable) as caught,
    ):
        ours.send(CALL)
    assert caught.value.code == "connection_error"
    assert caught.value.__cause__ is caught.value.original is not None
    assert str(caught.value).isprintable()


def test_silence_ends_with_the_read_timeout() -> None:
    def silent(connection: socket.socket, over: threading.Event) -> None:
        over.wait(20)

    with (
        serving(silent) as server,
        transport(server, read_s=0.05) as ours,
        pytest.raises(VastUnavailable) as caught,
    ):
        ours.send(CALL)
    assert caught.value.code == "timeout"


def test_silence_in_the_body_ends_too() -> None:
    def half(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
        over.wait(20)

    with (
        serving(half) as server,
        transport(server, read_s=0.05) as ours,
        pytest.raises(VastUnavailable) as caught,
    ):
        ours.send(CALL)
    assert caught.value.code == "timeout"


def test_a_trickle_does_not_last_for_ever() -> None:
    """Bytes keep coming, each in time, but the whole answer does not come in four read timeouts."""
    clock = Clock()

    def trickle(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        while not over.wait(0.002):
            clock.now += 1
            connection.sendall(b" ")

    with (
        serving(trickle) as server,
        transport(server, clock=clock, read_s=5) as ours,
        pytest.raises(VastUnavailable) as caught,
    ):
        ours.send(CALL)
    assert caught.value.code == "timeout"


def test_nobody_listens() -> None:
    with deaf_port() as port, make_session() as session:
        session.trust_env = False
        ours = Transport(config(url=f"http://127.0.0.1:{port}"), session=session)
        with pytest.raises(VastUnavailable, match="refused") as caught:
            ours.send(CALL)
    assert caught.value.code == "connection_error"


def test_of_an_endless_error_page_64_kib_are_read() -> None:
    def endless(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        while not over.is_set():
            connection.sendall(b"x" * 65536)

    with serving(endless) as server, transport(server) as ours:
        reply = ours.send(CALL)
    assert (reply.status, len(reply.body), reply.cut) == (502, MAX_ERROR_BYTES, True)


def test_an_answer_that_is_too_big_is_refused() -> None:
    def endless(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not over.is_set():
            connection.sendall(b"x" * (1 << 20))

    with serving(endless) as server, transport(server) as ours, pytest.raises(VastProtocolError) as caught:
        ours.send(CALL)
    assert caught.value.code == "too_big"


def test_cookies_are_not_sent_back() -> None:
    """An identity is the key alone: vast.ai counts calls per session too."""
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with serving(sending(answer)) as server, transport(server) as ours:
        ours.send(CALL)
        ours.send(CALL)
        assert len(server.requests) == 2
        assert b"cookie" not in server.requests[1].lower()


def test_a_public_file_is_fetched_without_the_key() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nlog"
    with serving(sending(answer)) as server, transport(server) as ours:
        assert ours.fetch_public(server.url + "/f", doing="testing").text == "log"
        assert b"authorization" not in server.requests[0].lower()


def test_an_address_that_is_none() -> None:
    with pytest.raises(VastRejected) as caught:
        Transport(config(url="http://")).send(CALL)
    assert caught.value.code == "bad_url"


def test_credentials_in_netrc_do_not_replace_the_key(tmp_path: Path) -> None:
    """requests would use them for every host that is named there."""

    class WithNetrc(requests.Session):
        def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
            # What requests does with a netrc entry: it counts only if the request brings no auth of its own.
            request.auth = request.auth or ("user", "password")
            return super().prepare_request(request)

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with serving(sending(answer)) as server, WithNetrc() as session:
        session.trust_env = False
        ours = Transport(config(url=server.url), session=session)
        ours.send(CALL)
        ours.fetch_public(server.url, doing="testing")
        assert f"Bearer {KEY}".encode() in server.requests[0]
        assert base64.b64encode(b"user:password") not in b"".join(server.requests)


def test_a_session_that_was_handed_in_stays_open() -> None:
    class Watched(requests.Session):
        closed = 0

        def close(self) -> None:
            self.closed += 1
            super().close()

    with Watched() as session:
        Transport(config(), session=session).close()
        assert session.closed == 0
    own = Transport(config())
    own.close()
    own.close()
