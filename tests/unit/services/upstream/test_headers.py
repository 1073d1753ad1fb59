"""Which headers travel."""

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.upstream.headers import (
    HOP_BY_HOP,
    LAST_CHUNK,
    Header,
    build_request_head,
    chunk,
    response_headers,
)


def head(headers: list[Header], method: bytes = b"POST", length: int | None = 3) -> list[bytes]:
    built = build_request_head(
        method,
        b"/v1/x?a=%2F",
        headers,
        host=b"127.0.0.1:18000",
        request_id=b"r1",
        token=b"t0ken",
        content_length=length,
    )
    assert built.endswith(b"\r\n\r\n")
    return built[:-4].split(b"\r\n")


def test_the_engine_gets_its_own_token_host_and_length_and_the_rest_as_it_was() -> None:
    sent = [
        (b"host", b"proxy.example"),
        (b"authorization", b"Bearer client-secret"),
        (b"content-length", b"999"),
        (b"x-vastproxy-instance", b"7"),
        (b"accept", b"a"),
        (b"accept", b"b"),
        (b"x-odd", b" spaced\tvalue "),
    ]
    assert head(sent) == [
        b"POST /v1/x?a=%2F HTTP/1.1",
        b"host: 127.0.0.1:18000",
        b"accept: a",
        b"accept: b",
        b"x-odd:  spaced\tvalue ",
        b"x-request-id: r1",
        b"authorization: Bearer t0ken",
        b"content-length: 3",
    ]


def test_what_connection_names_stays_on_the_connection() -> None:
    lines = head([(b"connection", b"close, X-Private ,keep-alive"), (b"x-private", b"1"), (b"x-other", b"2")])
    assert b"x-other: 2" in lines
    assert not any(line.startswith((b"x-private", b"connection")) for line in lines)


def test_unknown_length_means_chunks() -> None:
    assert head([], length=None)[-1] == b"transfer-encoding: chunked"


def test_a_get_without_a_body_announces_none() -> None:
    assert not any(b"content-length" in line for line in head([], method=b"GET", length=0))
    assert b"content-length: 0" in head([], method=b"POST", length=0)


NAMES = st.one_of(st.sampled_from(sorted(HOP_BY_HOP)), st.from_regex(rb"x-[a-z]{1,6}", fullmatch=True))


@given(st.lists(st.tuples(NAMES, st.just(b"v"))))
def test_end_to_end_headers_of_an_answer_keep_order_and_number(headers: list[Header]) -> None:
    kept = response_headers(headers)
    assert kept == [pair for pair in headers if pair[0] not in HOP_BY_HOP]


def test_set_cookie_twice_stays_twice() -> None:
    cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    assert response_headers([*cookies, (b"transfer-encoding", b"chunked")]) == cookies


def test_chunks() -> None:
    assert chunk(b"hello, world") + chunk(b"") + LAST_CHUNK == b"c\r\nhello, world\r\n0\r\n\r\n"
