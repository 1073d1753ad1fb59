"""The measure of our own code drives what it says: whole requests and streams through the real front."""

from bench.hot_path import prepare, requests, tokens


async def test_requests_and_streams_pass_and_nothing_stays() -> None:
    """Every request is answered on one kept connection, every stream comes to its end."""
    protocol, tunnel = await prepare()
    requests(protocol, tunnel, 3)
    tokens(protocol, tunnel, 5)
    requests(protocol, tunnel, 1)
    assert len(tunnel.streams) == 1
    assert tunnel.streams[0].protocol.requests == 1 + 3 + 1 + 1
    assert not protocol.at_work
