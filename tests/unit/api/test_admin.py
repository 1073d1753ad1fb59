"""What the admin API writes is one JSON document, whatever the size of the fleet, and no long work for the loop."""

import asyncio
import json
import random
from types import SimpleNamespace
from typing import cast

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.memory import MemoryEngine
from vastproxy.api.admin import AdminEndpoints
from vastproxy.api.rows import ROWS_IN_A_ROW
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.gpus import Gpu, GpuReading
from vastproxy.services.backends.keeping import KeeperTools
from vastproxy.services.backends.reach import Reach
from vastproxy.services.fleet import Fleet
from vastproxy.services.snapshot import BackendSnapshot, snapshot_backend
from vastproxy.services.tasks import Tasks
from vastproxy.settings import Settings


def reach_of(backend: Backend) -> Reach:
    """The ways to an instance that has not been dialled."""
    tools = KeeperTools(
        MemoryEngine(), Settings(), Tasks("rows"), lambda: 0.0, random.Random(1), lambda *_: None
    )
    return Reach(backend, tools, changed=lambda: None)


def rows(count: int) -> tuple[BackendSnapshot, ...]:
    found = []
    for number in range(count):
        backend = Backend(
            make_instance(id=number + 1, gpu_name="RTX 4090 ü"),
            token="secret",
            now=0.0,
            last_seen=0,
            on_event=lambda *_: None,
        )
        backend.gpus = GpuReading((Gpu(0, name="A"), Gpu(1, name="B")))
        found.append(snapshot_backend(backend, reach_of(backend), 1.0))
    return tuple(found)


class _Snapshot:
    def __init__(self, backends: tuple[BackendSnapshot, ...]) -> None:
        self.backends = backends


class _Fleet:
    def __init__(self, backends: tuple[BackendSnapshot, ...]) -> None:
        self._backends = backends
        self.live = SimpleNamespace(backends={})

    def snapshot(self) -> _Snapshot:
        return _Snapshot(self._backends)


async def told(backends: tuple[BackendSnapshot, ...]) -> list[bytes]:
    """The pieces of the answer. Each second turn of the loop is somebody else's."""
    endpoints = AdminEndpoints(cast(Fleet, _Fleet(backends)))
    answer = await endpoints.backends(None)  # type: ignore[arg-type]
    pieces: list[bytes] = []

    async def send(message: dict[str, object]) -> None:
        body = message.get("body", b"")
        assert isinstance(body, bytes)
        pieces.append(body)

    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    await answer(scope, receive, send)  # type: ignore[arg-type]
    return pieces


@pytest.mark.parametrize("count", [0, 1, ROWS_IN_A_ROW, ROWS_IN_A_ROW + 1, 5 * ROWS_IN_A_ROW])
async def test_all_backends_are_one_document(count: int) -> None:
    backends = rows(count)
    document = json.loads(b"".join(await told(backends)))
    assert document == {"backends": json.loads(json.dumps([{**each.to_json(), "machine": None} for each in backends]))}


async def test_a_large_fleet_does_not_hold_up_others() -> None:
    """Somebody else has his turn between any two pieces."""
    turns = 0

    async def somebody_else() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(somebody_else())
    pieces = await told(rows(8 * ROWS_IN_A_ROW))
    task.cancel()
    assert len(pieces) >= 8
    assert turns >= 8
