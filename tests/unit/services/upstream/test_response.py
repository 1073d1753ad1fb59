"""Reading responses: phases, borders, what spoils a connection, what is refused."""

import pytest

from vastproxy.services.errors import BackendProtocolError
from vastproxy.services.upstream.response import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_INTERIM,
    Phase,
    ResponseReader,
)

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 7\r\n\r\n"


def begun(*, head_only: bool = False, may_switch: bool = False) -> ResponseReader:
    reader = ResponseReader()
    reader.begin(head_only=head_only, may_switch=may_switch)
    return reader


def phase(reader: ResponseReader) -> Phase:
    return reader.phase


def read(reader: ResponseReader, data: bytes, size: int = 1 << 30) -> bytes:
    return b"".join(reader.feed(data[at : at + size]) for at in range(0, len(data), size))


@pytest.mark.parametrize("data", [PLAIN, CHUNKED], ids=["length", "chunks"])
@pytest.mark.parametrize("size", [1, 2, 3, 10, 1000])
def test_an_answer_however_it_is_cut(data: bytes, size: int) -> None:
    reader = begun()
    assert phase(reader) is Phase.HEAD
    assert read(reader, data, size) == b"hello"
    assert phase(reader) is Phase.DONE
    assert reader.keep_alive
    assert reader.head is not None
    assert (reader.head.status, reader.head.has_body) == (200, True)
    assert reader.head.length == (5 if data is PLAIN else None)
    assert reader.trailers == ([] if data is PLAIN else [(b"x-sum", b"7")])
    assert reader.end()


def test_one_answer_after_another() -> None:
    reader = begun()
    for data in (CHUNKED, PLAIN, b"HTTP/1.1 204 No Content\r\n\r\n", CHUNKED):
        assert read(reader, data) == (b"" if b"204" in data else b"hello")
        assert reader.keep_alive
        assert bool(reader.trailers) is (data is CHUNKED)
        reader.begin(head_only=False)
        assert not reader.received
        assert reader.head is None


@pytest.mark.parametrize("data", [PLAIN, CHUNKED], ids=["length", "chunks"])
def test_the_end_of_the_connection_completes_no_announced_body(data: bytes) -> None:
    for end in range(len(data)):
        reader = begun()
        read(reader, data[:end])
        assert not reader.end()
        assert reader.received is (end > 0)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_without_a_length_the_end_of_the_connection_is_the_end_of_the_body(version: bytes) -> None:
    reader = begun()
    assert read(reader, b"HTTP/%b 200 OK\r\nConnection: keep-alive\r\n\r\nall " % version) == b"all "
    assert phase(reader) is Phase.BODY
    assert reader.feed(b"of it") == b"of it"
    assert reader.end()
    assert phase(reader) is Phase.DONE
    assert not reader.keep_alive


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: X-Y, Close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_whether_another_request_may_follow(head: bytes, keep_alive: bool) -> None:
    reader = begun()
    read(reader, head + b"Content-Length: 0\r\n\r\n")
    assert phase(reader) is Phase.DONE
    assert reader.keep_alive is keep_alive


@pytest.mark.parametrize("status", [200, 204, 304, 404])
def test_answers_to_head_have_no_body_whatever_they_announce(status: int) -> None:
    for fields in (b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""):
        reader = begun(head_only=True)
        assert read(reader, b"HTTP/1.1 %d X\r\n%b\r\n" % (status, fields)) == b""
        assert phase(reader) is Phase.DONE
        assert reader.keep_alive
        assert reader.head is not None
        assert (reader.head.has_body, reader.head.length) == (False, None)


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_never_have_a_body(status: int) -> None:
    reader = begun()
    read(reader, b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status)
    assert phase(reader) is Phase.DONE
    assert reader.head is not None
    assert not reader.head.has_body
    # RFC 9110 §8.6: a 304 tells how long the body would be, a 204 must not
    assert reader.head.headers == ([(b"content-length", b"5")] if status == 304 else [])


@pytest.mark.parametrize(
    "data", [PLAIN, CHUNKED, b"HTTP/1.1 204 X\r\n\r\n"], ids=["length", "chunks", "none"]
)
def test_bytes_behind_an_answer_belong_to_nothing_and_spoil_the_connection(data: bytes) -> None:
    for together in (True, False):
        reader = begun()
        body = read(reader, data + b"X") if together else read(reader, data) + reader.feed(b"X")
        assert body == (b"" if b"204" in data else b"hello")
        assert phase(reader) is Phase.DONE
        assert not reader.keep_alive


def test_bytes_before_a_request_spoil_the_connection() -> None:
    reader = ResponseReader()
    assert phase(reader) is Phase.IDLE
    assert reader.keep_alive
    assert reader.feed(b"220 mail.example ESMTP\r\n") == b""
    assert not reader.keep_alive


# ── interim responses ──────────────────────────────────────────────────────────────────────────

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_interim_answers_are_kept_apart(size: int) -> None:
    reader = begun()
    body = read(reader, b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS + PLAIN, size)
    assert body == b"hello"
    assert reader.interim == [(100, b""), (103, b"link: </a>\r\n")]
    assert reader.head is not None
    assert reader.head.headers == [(b"content-length", b"5")]


def test_an_interim_answer_is_no_answer() -> None:
    reader = begun()
    assert reader.feed(HINTS) == b""
    assert phase(reader) is Phase.HEAD
    assert not reader.end()


def test_interim_answers_are_bounded_for_each_request() -> None:
    reader = begun()
    for _ in range(2):
        assert read(reader, HINTS * MAX_INTERIM + PLAIN) == b"hello"
        reader.begin(head_only=False)
    with pytest.raises(BackendProtocolError, match="interim"):
        reader.feed(HINTS * (MAX_INTERIM + 1))


def test_a_length_on_an_interim_answer_means_nothing() -> None:
    reader = begun()
    assert read(reader, b"HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\n" + PLAIN) == b"hello"


# ── other protocols ────────────────────────────────────────────────────────────────────────────

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_after_a_switch_bytes_are_bytes(size: int) -> None:
    reader = begun(may_switch=True)
    assert read(reader, SWITCH + b"\x00HTTP/1.1 200", size) == b"\x00HTTP/1.1 200"
    assert phase(reader) is Phase.SWITCHED
    assert reader.feed(b"\r\n\r\n") == b"\r\n\r\n"
    assert reader.head is not None
    assert reader.head.headers == [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    assert not reader.end()
    assert not reader.keep_alive


def test_nobody_switches_unasked() -> None:
    with pytest.raises(BackendProtocolError, match="without being asked"):
        begun().feed(SWITCH)


def test_an_offer_may_be_declined() -> None:
    reader = begun(may_switch=True)
    assert read(reader, PLAIN) == b"hello"
    assert phase(reader) is Phase.DONE
    assert reader.keep_alive


# ── refusals ───────────────────────────────────────────────────────────────────────────────────

MALFORMED = [
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\r\n" + PLAIN,
    b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n",
    b"HTTP/1.1 99 Low\r\n\r\n",
    b"HTTP/1.1 600 High\r\n\r\n",
    b"HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
    b"HTTP/1.1 200 OK\r\na : b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (MAX_HEADERS + 1) + b"\r\n",
    b"HTTP/1.1 200 OK\r\na: " + b"b" * MAX_HEAD_BYTES,
    b"HTTP/1.1 200 OK\r\na: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n",
]


@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: repr(data[:60]))
@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_what_is_not_http_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(BackendProtocolError, match="not valid HTTP"):
        read(begun(), data, size)


def test_the_most_headers_that_pass() -> None:
    reader = begun()
    read(reader, b"HTTP/1.1 204 X\r\n" + b"a: b\r\n" * MAX_HEADERS + b"\r\n")
    assert reader.head is not None
    assert len(reader.head.headers) == MAX_HEADERS
