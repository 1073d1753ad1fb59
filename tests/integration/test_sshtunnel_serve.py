"""The whole server over the second SSH engine: a simulated account, `tunnels.engine: sshtunnel`, and real requests."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.helpers.leaks import Snapshot
from tests.helpers.raw import Client, ask
from tests.helpers.scene import CHAT, chat, served_by
from tests.helpers.stage import until
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.cli.demo import client_of, demo_settings
from vastproxy.cli.serve import RunningServer, run_server
from vastproxy.services.tunnels.factory import make_engine
from vastproxy.services.tunnels.paramiko_slots import Slots
from vastproxy.services.tunnels.sshtunnel_engine import SshtunnelEngine
from vastproxy.settings import Settings
from vastproxy.simulator.simulation import Simulation

pytestmark = BOTH_LOOPS

LIMIT_S = 20.0


def settings_for(simulation: Simulation, state_dir: Path) -> Settings:
    """Those of the demo, with the second engine."""
    settings = demo_settings(simulation, "127.0.0.1:0", state_dir)
    return settings.model_copy(
        update={
            "tunnels": settings.tunnels.model_copy(update={"engine": "sshtunnel", "backoff_min_s": 0.1}),
            "server": settings.server.model_copy(update={"allowed_hosts": ("proxy.test",)}),
        }
    )


async def healthy(server: RunningServer, count: int) -> None:
    """Until exactly so many backends can serve."""
    await until(lambda: server.fleet.snapshot().counts()["healthy"] == count, limit_s=LIMIT_S)


async def serve(
    simulation: Simulation,
    directory: Path,
    work: Callable[[RunningServer, int], Awaitable[None]],
    *,
    slots: Slots | None = None,
) -> SshtunnelEngine:
    """Run the server, do `work` with it and its port, and end it politely. Returns its SSH engine."""
    settings = settings_for(simulation, directory)
    engine = make_engine(settings.tunnels, environ={"HOME": str(directory)})
    assert isinstance(engine, SshtunnelEngine)
    if slots is not None:
        engine.slots = slots

    async def ready(server: RunningServer) -> None:
        await work(server, int(server.url.rpartition(":")[2]))
        server.request_stop()

    with client_of(simulation, settings) as client:
        assert await run_server(settings, client=client, engine=engine, ready=ready) == 0
    assert engine.slots.in_use == 0
    return engine


async def test_the_whole_server_over_sshtunnel(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Instances become healthy, plain and streamed requests are answered, a cut connection comes back, and the end
    leaves no thread, socket or task.
    """
    async with Simulation(instances=2, model="m", tokens_per_s=200.0, first_token_s=0.01) as simulation:
        first, second = simulation.instances
        before, tasks = Snapshot.take(), asyncio.all_tasks()

        async def work(server: RunningServer, port: int) -> None:
            await healthy(server, 2)
            for machine in (first, second):
                answer = await ask(port, "POST", CHAT, **chat(pin=machine.id))
                assert served_by(answer) == machine.id
                streamed = await ask(port, "POST", CHAT, **chat(pin=machine.id, stream=True, tokens=20))
                assert served_by(streamed) == machine.id
                assert streamed.body.endswith(b"data: [DONE]\n\n")
            answers = await asyncio.gather(*(ask(port, "POST", CHAT, **chat(stream=True)) for _ in range(20)))
            assert {served_by(answer) for answer in answers} == {first.id, second.id}
            await cut_and_back(server, port)
            listeners = [thread for thread in threading.enumerate() if thread.name.startswith("Srv-")]
            assert len(listeners) >= 2, "sshtunnel's forwarders carried none of it"

        async def cut_and_back(server: RunningServer, port: int) -> None:
            first.slow_down(50)
            async with Client(port) as client:
                await client.send("POST", CHAT, **chat(pin=first.id, stream=True, tokens=200))
                head = await client.head()
                first.drop_connections()
                broken = await client.rest(head)
            assert not broken.complete or b"[DONE]" not in broken.body
            first.slow_down(1)
            assert served_by(await ask(port, "POST", CHAT, **chat())) in (first.id, second.id)
            await healthy(server, 2)
            assert served_by(await ask(port, "POST", CHAT, **chat(pin=first.id))) == first.id

        engine = await serve(simulation, tmp_path, work)
        assert engine.slots.refused == 0
        await until(lambda: not left_since(before) and asyncio.all_tasks() <= tasks)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith(("paramiko", "sshtunnel"))]


async def test_requests_above_the_cap_are_told_so_and_harm_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten streams may be open: of twenty clients the others get 503 at once, and later everybody is served."""
    caplog.set_level(logging.WARNING)
    async with Simulation(instances=2, model="m", tokens_per_s=200.0, first_token_s=0.01) as simulation:

        async def work(server: RunningServer, port: int) -> None:
            await healthy(server, 2)
            for machine in simulation.instances:
                machine.slow_down(100)  # so that all have asked before the first answer is whole
            loop = asyncio.get_running_loop()
            asked = [
                loop.create_task(ask(port, "POST", CHAT, **chat(stream=True, tokens=20))) for _ in range(20)
            ]
            await until(lambda: sum(one.done() for one in asked) >= 10, limit_s=LIMIT_S)
            for machine in simulation.instances:
                machine.slow_down(1)
            answers = await asyncio.gather(*asked)
            refused = [answer for answer in answers if answer.status == 503]
            assert len(refused) >= 10
            for answer in answers:
                assert answer.complete
                assert answer in refused or answer.body.endswith(b"data: [DONE]\n\n")
            await healthy(server, 2)
            assert (await ask(port, "POST", CHAT, **chat())).status == 200

        engine = await serve(simulation, tmp_path, work, slots=Slots(10))
        assert engine.slots.refused >= 10
    warnings = [
        message for message in caplog.messages if "all 10 streams that the sshtunnel engine" in message
    ]
    assert len([message for message in warnings if "refused since the start" in message]) == 1


def left_since(before: Snapshot) -> set[object]:
    """Threads and descriptors that are new; a loop keeps the threads of its executor until it ends."""
    now = Snapshot.take()
    threads = {
        thread
        for thread in now.threads - before.threads
        if not thread.name.startswith(("asyncio_", "uvloop_"))
    }
    return {*threads, *(now.descriptors - before.descriptors)}
