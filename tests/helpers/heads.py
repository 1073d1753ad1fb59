"""Whole heads, read and written with the tables that connections use, as tests like to have them."""

from collections.abc import Iterable
from typing import NamedTuple

from vastproxy.services.http1.grammar import Header, parse_request_line, parse_status_line
from vastproxy.services.http1.headers import (
    headers_of,
    request_fields,
    request_message,
    response_fields,
    returned_lines,
    sent_lines,
)


class RequestLine(NamedTuple):
    method: bytes
    target: bytes
    minor: int


def parse_request_head(head: bytes) -> tuple[RequestLine, list[Header]]:
    """The first line and the headers. Raises GrammarError."""
    method, target, minor, begin = parse_request_line(head)
    return RequestLine(method, target, minor), [each.header for each in request_fields().read(head, begin)]


def parse_response_head(head: bytes) -> tuple[int, int, list[Header]]:
    """Minor version, status and headers. Raises GrammarError."""
    minor, status, begin = parse_status_line(head)
    return minor, status, [each.header for each in response_fields().read(head, begin)]


def sent_head(
    method: bytes,
    target: bytes,
    headers: Iterable[Header],
    *,
    connection: frozenset[bytes],
    extra: bytes,
    length: int | None,
) -> bytes:
    """The head that an engine gets of a request with these headers. `connection`: the tokens of `Connection`."""
    table = request_fields()
    lines = sent_lines([table.make(header) for header in headers], connection) + extra
    return request_message(method, target, lines, b"", b"", length)


def returned_headers(
    headers: Iterable[Header], connection: frozenset[bytes], *, status: int = 200
) -> list[Header]:
    """What a client gets of a response's headers."""
    table = response_fields()
    return headers_of(returned_lines([table.make(header) for header in headers], connection, status=status))
