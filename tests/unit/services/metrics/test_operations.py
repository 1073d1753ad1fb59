"""Paths and what they ask for."""

import pytest

from vastproxy.services.metrics.operations import operation_of


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
