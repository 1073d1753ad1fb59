"""When a connection to an engine may carry another request."""

import pytest

from tests.helpers.recording_sink import PLAIN, begun

pytestmark = pytest.mark.virtual_time


async def test_not_before_the_request_that_was_answered_has_left() -> None:
    """An engine may answer before it has read the body. What is written then waits behind the rest of that."""
    bench = begun()
    bench.connection.pause_writing()
    bench.stream.feed(PLAIN)
    assert bench.sink.done
    assert not bench.connection.may_serve()
    bench.connection.resume_writing()
    assert bench.connection.may_serve()
