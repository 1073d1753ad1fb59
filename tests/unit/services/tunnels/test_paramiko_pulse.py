"""What the sweeper is told of a paramiko connection whose questions are sent by threads."""

import asyncio
import socket
import sys
from typing import Any, cast

import pytest

from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.liveness import Question
from vastproxy.services.tunnels.paramiko_pulse import ParamikoPulse
from vastproxy.services.tunnels.paramiko_transport import SshTransport


class FakeTransport:
    """Its socket takes a question or does not."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.received = 0
        self.has_room = False
        self.tries = 0

    def ask(self) -> bool:
        self.tries += 1
        if self.has_room:
            self.link.sendall(b"question")
        return self.has_room


async def until_tried(transport: FakeTransport, times: int) -> None:
    async with asyncio.timeout(5):
        while transport.tries < times or any(
            task.get_name().endswith("/ask") for task in asyncio.all_tasks()
        ):
            await asyncio.sleep(0.001)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what has arrived")
async def test_a_question_that_finds_no_room_is_tried_at_each_look_and_has_not_arrived() -> None:
    def nothing(_: Any) -> None:
        """Not called here."""

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
    ):
        transport, tasks = FakeTransport(ours), Tasks("test")
        pulse = ParamikoPulse(
            cast(SshTransport, transport), tasks, is_busy=lambda: True, doubt=nothing, die=nothing
        )
        assert pulse.question() is Question.ARRIVED
        assert transport.tries == 0
        pulse.ask()
        await until_tried(transport, 1)
        assert pulse.question() is Question.STANDING
        await until_tried(transport, 2)
        transport.has_room = True
        assert pulse.question() is not Question.ARRIVED
        await until_tried(transport, 3)
        async with asyncio.timeout(5):
            while pulse.question() is not Question.ARRIVED:
                await asyncio.sleep(0.001)
        assert transport.tries == 3
        await tasks.aclose()
