"""Paths and what they ask for."""

import pytest

from vastproxy.services.metrics.operations import is_stream, operation_of


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        (b"/v1/chat/completions", "chat"),
        (b"/api/chat", "chat"),
        (b"/v1/completions", "text_completion"),
        (b"/generate", "text_completion"),
        (b"/v1/embeddings", "embeddings"),
        (b"/v1/files", "other"),
        (b"/", "other"),
        (b"/v1/chat/completions/", "other"),
    ],
)
def test_operations(path: bytes, operation: str) -> None:
    assert operation_of(path) == operation


@pytest.mark.parametrize(
    ("lines", "stream"),
    [
        (b"date: x\r\ncontent-type: text/event-stream; charset=utf-8\r\n", True),
        (b"Content-Type: application/x-ndjson\r\n", True),
        (b"content-type: application/json\r\n", False),
        (b"", False),
    ],
)
def test_streams_are_told_by_their_type(lines: bytes, stream: bool) -> None:
    assert is_stream(lines) is stream
