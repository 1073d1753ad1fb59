"""Which asyncssh is gone around, and that nobody is left to wonder when it is not."""

import logging

import asyncssh
import pytest

from vastproxy.services.tunnels.asyncssh_engine import may_be_fast
from vastproxy.services.tunnels.shape import reason_not_to


def test_the_asyncssh_that_is_installed_may_be_gone_around() -> None:
    """A warning at each start and several times the CPU would be the price; see shape.TESTED."""
    assert reason_not_to() is None


@pytest.mark.parametrize("version", ["2.23.1", "2.25.0", "3.0.0", "2.24.x", "next"])
def test_an_asyncssh_that_is_not_known_is_left_alone(version: str) -> None:
    assert version in str(reason_not_to(version))


def test_an_asyncssh_whose_insides_have_changed_is_left_alone() -> None:
    class Rewritten(asyncssh.SSHClientConnection):
        def _recv_packet(self) -> bool:
            return False

    class Renamed(asyncssh.SSHClientConnection):
        send_newkeys = None  # type: ignore[assignment]

    assert "Rewritten._recv_packet" in str(reason_not_to(connection=Rewritten))
    assert "Renamed.send_newkeys" in str(reason_not_to(connection=Renamed))


def test_that_streams_cost_more_is_said_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert may_be_fast(None)
        assert not caplog.records
        assert not may_be_fast("asyncssh 9.0.0 is not known yet")
    assert caplog.messages == [
        "asyncssh 9.0.0 is not known yet: streams go through it as it is, at several times the CPU; "
        "asyncssh 2.24 is known"
    ]
