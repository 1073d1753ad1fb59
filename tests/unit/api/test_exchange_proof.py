"""Which answers to clients prove that an engine lives, whatever its probes say."""

import pytest

from tests.helpers.exchanging import Scene

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(("status", "proves"), [(200, True), (404, True), (500, False), (503, False)])
async def test_an_engine_that_only_fails_proves_nothing(scene: Scene, status: int, proves: bool) -> None:
    """Else one that refuses everything while it loads would stay in service for as long as it is asked."""
    engine = scene.backends[0].engines[0]
    asked = await scene.ask(b"POST", b"/v1/x", body=b"hello", pin=1)
    asked.stream.feed(b"HTTP/1.1 %d X\r\ncontent-length: 4\r\n\r\n" % status)
    assert engine.has_answered is proves
    engine.has_answered = False
    asked.stream.feed(b"do")
    assert engine.has_answered is proves
    asked.stream.feed(b"ne")
    assert (asked.client.status, asked.client.body) == (status, b"done")
