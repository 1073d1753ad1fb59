"""A remote command, as asyncssh tells of it."""

import asyncio

from vastproxy.services.tunnels.command import CommandSession


class FakeChannel:
    def abort(self) -> None:
        pass


async def test_the_status_of_a_command_that_we_killed_is_none_of_its_own() -> None:
    """Its pipe breaks with our channel, and the status of that may still be on its way."""
    session = CommandSession("yes", asyncio.get_running_loop(), max_output_bytes=4)
    session.connection_made(FakeChannel())
    session.data_received(b"y\ny\ny\n", None)
    session.exit_status_received(141)
    await session.finished
    assert (session.result().exit_status, session.result().stdout) == (None, "y\ny\n")


async def test_a_command_that_ends_by_itself_has_its_status() -> None:
    session = CommandSession("true", asyncio.get_running_loop(), max_output_bytes=4)
    session.connection_made(FakeChannel())
    session.exit_status_received(3)
    session.connection_lost(None)
    assert session.result().exit_status == 3
