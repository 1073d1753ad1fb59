"""Requests by subject. Names of cases are unique within a subject."""

from tests.corpus.cases import RequestCase
from tests.corpus.requests import (
    chunked,
    connections,
    content_length,
    header_lines,
    host,
    request_line,
    transfer_encoding,
)

REQUESTS: dict[str, tuple[RequestCase, ...]] = {
    "request-line": request_line.CASES,
    "header-lines": header_lines.CASES,
    "host": host.CASES,
    "content-length": content_length.CASES,
    "transfer-encoding": transfer_encoding.CASES,
    "chunked": chunked.CASES,
    "connections": connections.CASES,
}
