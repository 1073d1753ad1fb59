"""A machine that talks without end before it speaks SSH: given up in time, and little of it kept. Over both engines."""

import asyncio
from pathlib import Path as FilePath

import pytest

from tests.helpers.memory_use import Growth
from tests.helpers.raw import ScriptedServer
from tests.helpers.ssh_engines import engine_named
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import direct, target_for
from vastproxy.services.errors import TunnelError

MB = 1 << 20
LIMIT_S = 1.0


@pytest.mark.parametrize(
    "piece",
    [b"x" * 65_536, b"welcome\r\n" * 5_000, b"\n" * 65_536, b"SSH-2.0-" + b"y" * 65_536, b"\x00" * 65_536],
    ids=["one line", "lines", "line ends", "versions", "zeros"],
)
async def test_a_banner_without_end(tmp_path: FilePath, engine: str, piece: bytes) -> None:
    sent: list[int] = []

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(piece)
            await writer.drain()
            sent.append(len(piece))

    machine = await asyncio.to_thread(Sshd, tmp_path / "machine")  # for its keys alone
    ours = engine_named(engine, machine, connect_timeout_s=LIMIT_S)
    loop = asyncio.get_running_loop()
    async with ScriptedServer(flood) as server:
        growth, began = Growth(), loop.time()
        address = direct(server.port)
        try:
            with pytest.raises(TunnelError) as caught:
                await ours.connect(target_for(address), address)
        finally:
            await ours.close()
        assert loop.time() - began < LIMIT_S + 4
    assert growth.look() < 64 * MB
    assert len(str(caught.value)) < 1_000, "what it said is not repeated without end"
    assert str(caught.value).isprintable()
