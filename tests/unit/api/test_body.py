"""The client's body, piece by piece."""

from collections.abc import Sequence
from typing import Any

import pytest

from vastproxy.api.body import REPLAY_LIMIT_BYTES, BodyTooLarge, ClientDisconnected, RequestBody


def body(*messages: dict[str, Any], limit: int = 10 * REPLAY_LIMIT_BYTES) -> RequestBody:
    queue = list(messages)

    async def receive() -> dict[str, Any]:
        return queue.pop(0)

    return RequestBody(receive, limit_bytes=limit)


def pieces(*data: bytes) -> Sequence[dict[str, Any]]:
    last = len(data) - 1
    return [{"type": "http.request", "body": one, "more_body": i < last} for i, one in enumerate(data)]


async def test_pieces_come_in_order_and_are_held() -> None:
    reading = body(*pieces(b"a", b"", b"c"))
    assert [await reading.read() for _ in range(3)] == [b"a", b"", b"c"]
    assert reading.complete
    assert reading.held == b"ac"


async def test_no_more_is_held_than_the_limit() -> None:
    half = b"x" * (REPLAY_LIMIT_BYTES // 2 + 1)
    reading = body(*pieces(half, half, b"z"))
    await reading.read()
    assert reading.held == half
    await reading.read()
    assert reading.held is None
    await reading.read()
    assert reading.held is None


async def test_a_first_piece_of_any_size_is_held_because_it_has_not_been_sent() -> None:
    big = b"x" * (REPLAY_LIMIT_BYTES + 1)
    reading = body(*pieces(big, b"y"))
    await reading.read()
    assert reading.held == big


async def test_too_much_is_refused_when_it_has_come() -> None:
    reading = body(*pieces(b"12345", b"6"), limit=5)
    await reading.read()
    with pytest.raises(BodyTooLarge):
        await reading.read()


async def test_a_client_that_leaves_is_noticed_in_the_body_and_after_it() -> None:
    gone = {"type": "http.disconnect"}
    with pytest.raises(ClientDisconnected):
        await body(gone).read()
    reading = body(*pieces(b"a"), {"type": "http.request"}, gone)
    await reading.read()
    await reading.wait_for_disconnect()
