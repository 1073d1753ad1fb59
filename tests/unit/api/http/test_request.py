"""Reading requests: the table of refusals, the border between one request and the next, what is made of a head."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.api.http.request import BadRequest, Request, RequestReader
from vastproxy.services.http1.framing import CHUNKED, EMPTY, Framing


def read(head: bytes, **limits: Any) -> Request:
    reader = RequestReader(**limits)
    reader.feed(head)
    assert reader.request is not None
    return reader.request


def get(
    lines: bytes = b"", *, target: bytes = b"/", version: bytes = b"1.1", host: bytes = b"Host: x\r\n"
) -> Request:
    return read(b"GET %b HTTP/%b\r\n%b%b\r\n" % (target, version, host, lines))


def refusal(data: bytes, size: int = 1 << 30, **limits: Any) -> int | None:
    reader = RequestReader(**limits)
    try:
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])
            while reader.complete and (rest := reader.next()):
                reader.feed(rest)
    except BadRequest as error:
        return error.status
    return None


# ── what is made of a head ─────────────────────────────────────────────────────────────────────


def test_a_plain_request() -> None:
    request = get(b"X-A: 1\r\nx-a: 2\r\n", target=b"/a%2Fb?c=d")
    assert request.headers == [(b"host", b"x"), (b"x-a", b"1"), (b"x-a", b"2")]
    assert request == Request(
        b"GET",
        b"/a%2Fb?c=d",
        request.fields,
        1,
        EMPTY,
        frozenset(),
        {b"host": [b"x"]},
        host=b"x",
        keep_alive=True,
    )
    assert get(target=b"/a?b?c").path == b"/a"


@pytest.mark.parametrize(
    ("target", "origin", "host"),
    [
        (b"/", b"/", b"x"),
        (b"//a/../b;c?d", b"//a/../b;c?d", b"x"),
        (b"/\xc3\xa9%00", b"/\xc3\xa9%00", b"x"),
        (b"/http://a/b", b"/http://a/b", b"x"),
        (b"http://Other:80/a?b", b"/a?b", b"Other:80"),
        (b"https://other", b"/", b"other"),
        (b"http://other?a=/b", b"/?a=/b", b"other"),
        (b"HTTP://[::1]:8/a//b", b"/a//b", b"[::1]:8"),
    ],
)
def test_targets_become_origin_form_and_nothing_else_changes(
    target: bytes, origin: bytes, host: bytes
) -> None:
    request = get(target=target)
    assert (request.target, request.host) == (origin, host)


def test_options_of_the_whole_server() -> None:
    for target in (b"*", b"http://other"):
        assert read(b"OPTIONS %b HTTP/1.1\r\nHost: x\r\n\r\n" % target).target == b"*"
    assert read(b"OPTIONS http://other/ HTTP/1.1\r\nHost: x\r\n\r\n").target == b"/"
    assert read(b"OPTIONS http://other?a HTTP/1.1\r\nHost: x\r\n\r\n").target == b"/?a"


@pytest.mark.parametrize(
    ("version", "lines", "keep_alive"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: a\r\nConnection: b, CLOSE\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_keep_alive(version: bytes, lines: bytes, keep_alive: bool) -> None:
    assert get(lines, version=version).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("version", "lines", "expects"),
    [
        (b"1.1", b"Content-Length: 5\r\nExpect: 100-continue\r\n", True),
        (b"1.1", b"Content-Length: 5\r\nExpect: 100-Continue\r\nExpect: 100-continue\r\n", True),
        (b"1.1", b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", True),
        (b"1.1", b"Content-Length: 0\r\nExpect: 100-continue\r\n", False),
        (b"1.1", b"Expect: 100-continue\r\n", False),
        (b"1.1", b"Content-Length: 5\r\n", False),
        (b"1.0", b"Content-Length: 5\r\nExpect: 100-continue\r\n", False),
        (b"1.0", b"Content-Length: 5\r\nExpect: magic\r\n", False),
    ],
)
def test_expectations(version: bytes, lines: bytes, expects: bool) -> None:
    assert get(lines, version=version).expects_continue is expects


@pytest.mark.parametrize(
    ("version", "lines", "offer"),
    [
        (b"1.1", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"websocket"),
        (b"1.1", b"Connection: a, upgrade\r\nUpgrade: a/1 , b\r\nUpgrade: c\r\n", b"a/1, b, c"),
        (b"1.1", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", b""),
        (b"1.1", b"Connection: upgrade\r\nUpgrade: H2C, websocket, h2,\r\n", b"websocket"),
        (b"1.1", b"Upgrade: websocket\r\n", b""),
        (b"1.1", b"Connection: upgrade\r\n", b""),
        (b"1.1", b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n", b""),
        (b"1.1", b"Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n", b""),
        (b"1.0", b"Connection: upgrade\r\nUpgrade: websocket\r\n", b""),
    ],
)
def test_offers_of_another_protocol(version: bytes, lines: bytes, offer: bytes) -> None:
    assert get(lines, version=version).upgrade == offer


@pytest.mark.parametrize(
    ("version", "lines", "takes"),
    [
        (b"1.1", b"TE: trailers\r\n", True),
        (b"1.1", b"TE: gzip, Trailers\r\n", True),
        (b"1.1", b"TE: gzip\r\n", False),
        (b"1.1", b"", False),
        (b"1.0", b"TE: trailers\r\n", False),
    ],
)
def test_who_takes_trailers(version: bytes, lines: bytes, takes: bool) -> None:
    assert get(lines, version=version).takes_trailers is takes


@pytest.mark.parametrize(
    ("lines", "framing"),
    [
        (b"", EMPTY),
        (b"Content-Length: 0\r\n", EMPTY),
        (b"Content-Length: 7\r\n", Framing(chunked=False, length=7)),
        (b"Transfer-Encoding: Chunked\r\n", CHUNKED),
    ],
)
def test_framing(lines: bytes, framing: Framing) -> None:
    assert get(lines).framing == framing


def test_http_1_0_needs_no_host_and_later_minors_are_1_1() -> None:
    assert get(version=b"1.0", host=b"").host == b""
    assert get(version=b"1.7").minor == 1


# ── refusals ───────────────────────────────────────────────────────────────────────────────────

POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
REFUSED: list[tuple[int, bytes]] = [
    (400, b"GET /\r\n\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
    (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    (400, b"GET http://user@a/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET http:/// HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET a/b HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n"),
    (400, POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
    (400, POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    (400, POST + b"Content-Length: 5, 5\r\n\r\n"),
    (400, POST + b"Content-Length: x\r\n\r\n"),
    (400, POST + b"Content-Length:\r\n\r\n"),
    (400, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (400, POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n"),
    (400, POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    (400, POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA : b\r\n\r\n"),
    (501, POST + b"Transfer-Encoding: gzip\r\n\r\n"),
    (501, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n"),
    (501, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (405, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    (417, POST + b"Content-Length: 5\r\nExpect: magic\r\n\r\n"),
    (417, POST + b"Content-Length: 5\r\nExpect: 100-continue\r\nExpect: magic\r\n\r\n"),
]


@pytest.mark.parametrize(("status", "data"), REFUSED, ids=lambda value: repr(value)[-60:])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_each_refusal_has_its_status_however_it_arrives(status: int, data: bytes, size: int) -> None:
    assert refusal(data, size) == status
    ok = b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n"
    assert refusal(ok + data, size) == status


def test_a_refusal_is_a_sentence_for_the_client() -> None:
    with pytest.raises(BadRequest, match=r"^The request has a malformed request line\.$") as caught:
        read(b"nonsense\r\n\r\n")
    assert caught.value.message == str(caught.value)


@pytest.mark.parametrize("size", [1, 100, 4000])
def test_limits_of_a_head(size: int) -> None:
    def head(path: int, header: int) -> bytes:
        return b"GET /" + b"a" * path + b" HTTP/1.1\r\nHost: x\r\nB: " + b"b" * header + b"\r\n\r\n"

    limit = 1024
    around = len(head(0, 0))
    for path in (0, 500):
        assert refusal(head(path, limit - around - path), size, max_head_bytes=limit) is None
        assert refusal(head(path, limit - around - path + 1), size, max_head_bytes=limit) == 431
    assert refusal(head(limit, 0), size, max_head_bytes=limit) == 414
    assert refusal(head(3 * limit, 3 * limit), size, max_head_bytes=limit) == 414
    assert refusal(b"G" * 2 * limit, size, max_head_bytes=limit) == 414


def test_the_number_of_headers() -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\n"
    assert refusal(head + b"a: b\r\n" * 9 + b"\r\n", max_headers=10) is None
    assert refusal(head + b"a: b\r\n" * 10 + b"\r\n", max_headers=10) == 431


# ── one after another ──────────────────────────────────────────────────────────────────────────

MESSAGES = {
    b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n": b"",
    POST + b"Content-Length: 5\r\n\r\nhello": b"hello",
    POST + b"Content-Length: 0\r\n\r\n": b"",
    POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n": b"hello",
    POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n": b"",
    b"\r\nGET /1 HTTP/1.1\r\nHost: x\r\n\r\n": b"",
    b"\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n": b"",
}


@given(st.lists(st.sampled_from(sorted(MESSAGES)), max_size=6), st.lists(st.integers(1, 60), max_size=30))
def test_every_body_ends_where_it_ends(messages: list[bytes], cuts: list[int]) -> None:
    """Whatever requests follow one another in whatever pieces, each is read with its body, and nothing is left."""
    data = b"".join(messages)
    reader = RequestReader()
    bodies: list[bytes] = []
    body, position = b"", 0
    for size in [*cuts, len(data)]:
        piece = data[position : position + size]
        position += size
        while piece:
            body += reader.feed(piece)
            piece = b""
            if reader.complete:
                bodies.append(body)
                body = b""
                assert reader.request is not None
                piece = reader.next()
                assert reader.request is None
    assert bodies == [MESSAGES[message] for message in messages]
    assert reader.idle
    assert reader.rest == b""


def test_what_comes_behind_a_request_waits_for_its_turn() -> None:
    reader = RequestReader()
    first, second = b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
    assert reader.idle
    reader.feed(first + second[:5])
    assert reader.feed(second[5:]) == b""
    assert reader.request is not None
    assert reader.request.target == b"/1"
    assert reader.rest == second
    assert reader.next() == second
    assert reader.rest == b""


def test_idle_until_the_first_byte() -> None:
    reader = RequestReader()
    reader.feed(b"\r\n\r\n")  # no request has begun with it
    assert reader.idle
    reader.feed(b"G")
    assert not reader.idle


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n" * (128 * 1024),
        b"GET / HTTP/1.1\r\nHost: " + b"a" * 60_000 + b" \r\n\r\n",
        b"GET http://" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET " + b"a" * 60_000 + b":// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: " + b"," * 60_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: " + b", " * 30_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTE: " + b"trailers," * 6_000 + b"\r\n\r\n",
    ],
    ids=lambda data: repr(data[:40]),
)
def test_no_head_is_expensive(data: bytes) -> None:
    """A few milliseconds of CPU. What takes its time for each byte again takes many seconds for so many."""
    began = time.process_time()
    refusal(data)
    assert time.process_time() - began < 1


# ── a head that comes again ────────────────────────────────────────────────────────────────────


def conversation(*requests: bytes) -> list[tuple[Request, bytes]]:
    """Requests and bodies, read one after another on one connection."""
    reader = RequestReader()
    seen = []
    for raw in requests:
        body = reader.feed(raw)
        assert reader.request is not None
        assert reader.complete
        seen.append((reader.request, body))
        assert reader.next() == b""
    return seen


def post(length: bytes, body: bytes, *, more: bytes = b"") -> bytes:
    return b"POST /x HTTP/1.1\r\nHost: h\r\n%bContent-Length: %b\r\nX-A: 1\r\n\r\n%b" % (more, length, body)


def test_a_head_that_comes_again_is_the_same_but_for_its_length() -> None:
    """What was found out about it is shared; its length, its body and its headers are its own."""
    seen = conversation(post(b"3", b"abc"), post(b"12", b"hello, world"), post(b"3", b"xyz"))
    assert [body for _, body in seen] == [b"abc", b"hello, world", b"xyz"]
    assert [request.framing.length for request, _ in seen] == [3, 12, 3]
    assert [dict(request.headers)[b"content-length"] for request, _ in seen] == [b"3", b"12", b"3"]
    first = seen[0][0]
    assert all(request.facts is first.facts for request, _ in seen)
    assert first.framing.length == 3


@pytest.mark.parametrize(
    "other",
    [
        post(b"0", b""),
        post(b"3", b"abc", more=b"X-B: 2\r\n"),
        post(b"3", b"abc").replace(b"/x", b"/y"),
        post(b"3", b"abc").replace(b"X-A: 1", b"X-A: 2"),
        b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_another_head_shares_nothing(other: bytes) -> None:
    before, after = conversation(post(b"3", b"abc"), other)
    assert before[0].facts is not after[0].facts
    assert after[0] == conversation(other)[0][0]


@pytest.mark.parametrize("length", [b"+3", b" 3 4", b"3, 3", b"0x3", b"9" * 16, b"3\r\nContent-Length: 4"])
def test_a_length_that_is_none_is_refused_behind_a_good_one_too(length: bytes) -> None:
    """Recognising a head does not make its reader any less strict."""
    assert refusal(post(b"3", b"abc") + post(length, b"abc")) == 400


def test_a_client_that_writes_each_head_anew_is_read_anew() -> None:
    """And heads are not kept for nothing; one that is repeated later on is read all the same."""
    heads = [post(b"3", b"abc", more=b"X-Id: %d\r\n" % number) for number in range(20)]
    seen = conversation(*heads, heads[-1], heads[-1])
    assert [dict(request.headers).get(b"x-id") for request, _ in seen[:20]] == [b"%d" % n for n in range(20)]
    assert {body for _, body in seen} == {b"abc"}
