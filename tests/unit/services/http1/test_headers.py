"""Which headers travel, and how what travels is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.heads import parse_request_head, returned_headers, sent_head
from vastproxy.services.http1.grammar import Header
from vastproxy.services.http1.headers import (
    CREDENTIALS,
    HOP_BY_HOP,
    LAST_CHUNK,
    REQUEST_OURS,
    RESPONSE_OURS,
    STATUS_LINES,
    chunk,
    dropped_names,
    headers_of,
    last_chunk,
    lines_of,
    request_fields,
    response_fields,
    returned_lines,
    returned_trailers,
    sent_lines,
)

NONE: frozenset[bytes] = frozenset()


def head(
    headers: list[Header],
    *,
    method: bytes = b"POST",
    length: int | None = 3,
    dropped: frozenset[bytes] = NONE,
) -> list[bytes]:
    extra = b"host: 127.0.0.1:18000\r\nx-request-id: r1\r\n"
    built = sent_head(method, b"/v1/x?a=%2F", headers, connection=dropped, extra=extra, length=length)
    assert built.endswith(b"\r\n\r\n")
    return built[:-4].split(b"\r\n")


def test_the_engine_gets_our_host_and_length_and_the_rest_as_it_was() -> None:
    sent = [
        (b"host", b"proxy.example"),
        (b"authorization", b"Bearer client-secret"),
        (b"content-length", b"999"),
        (b"expect", b"100-continue"),
        (b"x-request-id", b"theirs"),
        (b"x-vastproxy-instance", b"7"),
        (b"accept", b"a"),
        (b"accept", b"b"),
        (b"x-odd", b"spaced\tvalue"),
    ]
    assert head(sent) == [
        b"POST /v1/x?a=%2F HTTP/1.1",
        b"accept: a",
        b"accept: b",
        b"x-odd: spaced\tvalue",
        b"host: 127.0.0.1:18000",
        b"x-request-id: r1",
        b"content-length: 3",
    ]


def test_what_connection_names_stays_on_the_connection() -> None:
    dropped = dropped_names(frozenset({b"close", b"x-private", b"keep-alive", b"upgrade", b"te"}))
    assert dropped == {b"x-private"}
    lines = head([(b"x-private", b"1"), (b"x-other", b"2")], dropped=dropped)
    assert b"x-other: 2" in lines
    assert not any(line.startswith(b"x-private") for line in lines)
    assert dropped_names(NONE) == NONE


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"])
def test_methods_that_have_no_body_announce_none(method: bytes) -> None:
    assert not any(b"content-length" in line for line in head([], method=method, length=0))
    assert b"content-length: 2" in head([], method=method, length=2)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"PROPFIND"])
def test_methods_that_may_have_a_body_say_that_it_is_empty(method: bytes) -> None:
    assert b"content-length: 0" in head([], method=method, length=0)


def test_an_unknown_length_means_chunks() -> None:
    for method in (b"POST", b"GET"):
        assert head([], method=method, length=None)[-1] == b"transfer-encoding: chunked"


NAMES = st.one_of(
    st.sampled_from(sorted(HOP_BY_HOP | REQUEST_OURS | RESPONSE_OURS)),
    st.from_regex(rb"x-[a-z]{1,6}", fullmatch=True),
)
HEADERS = st.lists(st.tuples(NAMES, st.sampled_from([b"", b"v", b"a, b"])))


@given(HEADERS, st.one_of(st.none(), st.integers(0, 10**9)))
def test_a_request_has_one_framing_whatever_the_client_sent(
    headers: list[Header], length: int | None
) -> None:
    """And what is end-to-end keeps its order and number."""
    raw = sent_head(b"POST", b"/x", headers, connection=NONE, extra=b"host: h\r\n", length=length)
    line, fields = parse_request_head(raw)
    assert (line.method, line.target, line.minor) == (b"POST", b"/x", 1)
    framing = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)
    kept = [pair for pair in headers if pair[0] not in HOP_BY_HOP | REQUEST_OURS]
    assert fields == [*kept, (b"host", b"h"), framing]


@given(HEADERS)
def test_end_to_end_headers_of_an_answer_keep_order_and_number(headers: list[Header]) -> None:
    kept = [pair for pair in headers if pair[0] not in HOP_BY_HOP | RESPONSE_OURS | {b"set-cookie"}]
    assert returned_headers(headers, NONE) == kept
    assert returned_headers(headers, frozenset({b"close"})) == kept
    assert returned_headers([*headers, (b"x-hop", b"1")], frozenset({b"x-hop"})) == [
        p for p in kept if p[0] != b"x-hop"
    ]


def test_engines_set_cookies_only_where_they_may() -> None:
    """Twice stays twice."""
    cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    assert returned_headers([*cookies, (b"x-v", b"v")], NONE) == [(b"x-v", b"v")]
    table = response_fields(cookies=True)
    fields = [table.make(header) for header in (*cookies, (b"transfer-encoding", b"chunked"))]
    assert headers_of(returned_lines(fields, NONE)) == cookies


def sent(headers: list[Header], *passed: bytes) -> list[Header]:
    table = request_fields()
    return headers_of(sent_lines([table.make(header) for header in headers], NONE, passed))


@pytest.mark.parametrize("name", sorted(CREDENTIALS))
def test_an_engine_is_sent_no_credentials_unless_it_is_to_have_them(name: bytes) -> None:
    headers = [(b"x-a", b"1"), (name, b"s3cret"), (b"x-b", b"2"), (b"authorization", b"Bearer k")]
    others = [(b"x-a", b"1"), (b"x-b", b"2")]
    assert sent(headers) == others
    assert sent(headers, name) == [*others, (name, b"s3cret")]
    assert sent(headers, *(CREDENTIALS - {name})) == others


def test_what_is_for_this_connection_is_not_passed_either() -> None:
    field = request_fields().make((b"cookie", b"a=1"))
    assert sent_lines([field], frozenset({b"cookie"}), {b"cookie"}) == b""


def test_the_key_of_a_pages_websocket_stays_here() -> None:
    """A page cannot send Authorization with it, so OpenAI's client offers its key as a protocol."""
    name = b"sec-websocket-protocol"
    key = b"openai-insecure-api-key.sk-s3cret"
    assert sent([(name, b"realtime, " + key + b", openai-beta.realtime-v1")]) == [
        (name, b"realtime, openai-beta.realtime-v1")
    ]
    assert sent([(name, key), (b"x-a", b"1"), (name, b"realtime")]) == [(b"x-a", b"1"), (name, b"realtime")]
    assert sent([(b"x-a", key)]) == [(b"x-a", key)]


def test_an_answer_cannot_lose_its_length_to_a_connection_token() -> None:
    """Its body is passed on as long as announced; without the announcement nobody would know where it ends."""
    headers = [(b"content-length", b"5")]
    assert returned_headers(headers, frozenset({b"content-length", b"close"})) == headers


def test_fields_that_change_how_a_message_is_read_are_no_trailers() -> None:
    trailers = [
        (b"x-sum", b"1"),
        (b"content-length", b"5"),
        (b"transfer-encoding", b"chunked"),
        (b"content-type", b"text/html"),
        (b"set-cookie", b"a"),
        (b"host", b"h"),
        (b"x-request-id", b"r"),
        (b"x-vastproxy-instance", b"1"),
        (b"x-sum", b"2"),
    ]
    assert returned_trailers(trailers) == [(b"x-sum", b"1"), (b"x-sum", b"2")]


def test_status_lines() -> None:
    assert STATUS_LINES[200] == b"HTTP/1.1 200 OK\r\n"
    assert STATUS_LINES[404] == b"HTTP/1.1 404 Not Found\r\n"
    assert STATUS_LINES[599] == b"HTTP/1.1 599 \r\n"
    for status in (99, 600):
        with pytest.raises(KeyError):
            STATUS_LINES[status]


def test_chunks() -> None:
    assert chunk(b"hello, world") + chunk(b"") + LAST_CHUNK == b"c\r\nhello, world\r\n0\r\n\r\n"
    assert last_chunk() == LAST_CHUNK
    assert last_chunk([(b"a", b"1"), (b"b", b"")]) == b"0\r\na: 1\r\nb: \r\n\r\n"


def test_header_lines() -> None:
    headers = [(b"a", b"1"), (b"a", b""), (b"b", b"x: y")]
    assert lines_of(headers) == b"a: 1\r\na: \r\nb: x: y\r\n"
    assert headers_of(lines_of(headers)) == headers


@pytest.mark.parametrize(
    "name",
    [b"access-control-allow-origin", b"alt-svc", b"strict-transport-security", b"clear-site-data"],
)
def test_what_an_engine_tells_browsers_of_this_host_is_not_returned(name: bytes) -> None:
    assert returned_headers([(name, b"x"), (b"x-a", b"1")], NONE) == [(b"x-a", b"1")]


@pytest.mark.parametrize(
    ("status", "returned"), [(301, True), (302, True), (303, True), (307, False), (308, False)]
)
def test_nobody_is_told_to_repeat_his_request_elsewhere(status: int, returned: bool) -> None:
    headers = returned_headers([(b"location", b"/vastproxy/v1/x"), (b"x-a", b"1")], NONE, status=status)
    assert ((b"location", b"/vastproxy/v1/x") in headers) is returned
    assert (b"x-a", b"1") in headers
