"""What listens inside a simulated instance, and through which door."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from starlette.types import Message

from vastproxy.simulator.caddy import Doors, create_caddy
from vastproxy.simulator.contract import Contract
from vastproxy.simulator.engine import Engine
from vastproxy.simulator.flavours import create_engine_app
from vastproxy.simulator.payloads import instance_row
from vastproxy.simulator.portal import PORTAL_PORT
from vastproxy.simulator.programs import Programs


@contextmanager
def programs(*flavours: str, doors: Doors = Doors.OWN) -> Iterator[tuple[Programs, list[Path]]]:
    """They, and the sockets whose streams were cut."""
    cut: list[Path] = []
    contract = Contract(instance_row(7))
    with TemporaryDirectory() as home:
        engines = [Engine(flavour) for flavour in flavours]
        yield Programs(engines, contract, Path(home), doors=doors, cut=cut.append), cut


def open_ports(made: Programs) -> set[int]:
    candidates = {PORTAL_PORT, 8000, 21434, *range(18000, 18003), 11434, 80, 22}
    return {port for port in candidates if made.route(port) is not None}


@pytest.mark.parametrize(
    ("flavours", "doors", "ports"),
    [
        (("vllm",), Doors.OWN, {PORTAL_PORT, 18000}),
        (("vllm",), Doors.BOTH, {PORTAL_PORT, 18000, 8000}),
        (("vllm",), Doors.CADDY, {PORTAL_PORT, 8000}),
        (("ollama",), Doors.CADDY, {PORTAL_PORT, 21434}),
        (("vllm", "sglang"), Doors.OWN, {PORTAL_PORT, 18000, 18001}),
        (("sglang", "ollama"), Doors.CADDY, {PORTAL_PORT, 8000, 11434}),
        (("tgi",), Doors.OWN, {80}),
        (("tgi",), Doors.CADDY, {8000}),
        ((), Doors.OWN, set()),
        ((), Doors.CADDY, set()),
    ],
)
async def test_which_ports_listen(flavours: tuple[str, ...], doors: Doors, ports: set[int]) -> None:
    with programs(*flavours, doors=doors) as (made, _):
        assert open_ports(made) == set()
        await made.start()
        try:
            assert open_ports(made) == ports
        finally:
            await made.stop()
        assert open_ports(made) == set()
        await made.stop()


async def test_without_a_portal() -> None:
    with programs("vllm") as (made, _):
        made.has_portal = False
        await made.start()
        assert open_ports(made) == {18000}
        await made.stop()


async def test_one_engine_ends_alone_with_what_caddy_passes_on_to_it() -> None:
    with programs("vllm", "sglang", doors=Doors.BOTH) as (made, cut):
        await made.start()
        try:
            first, second = (seat.socket for seat in made.seats)
            caddy = made.route(8000)
            await made.stop_engine(0)
            assert cut == [first, caddy]
            assert open_ports(made) == {PORTAL_PORT, 8000, 18001}
            await made.stop_engine(1)
            assert cut == [first, caddy, second]
            await made.start_engine(1)
            assert open_ports(made) == {PORTAL_PORT, 8000, 18001}
        finally:
            await made.stop()


@pytest.mark.parametrize(
    ("authorization", "is_up", "status", "header"),
    [
        (b"Bearer t", True, 200, (b"via", b"1.1 Caddy")),
        (b"Bearer t", False, 502, (b"x-portal-placeholder", b"true")),
        (b"Bearer x", True, 401, None),
        (None, True, 401, None),
    ],
)
async def test_caddy_wants_the_token_and_says_that_it_passes_on(
    authorization: bytes | None, is_up: bool, status: int, header: tuple[bytes, bytes] | None
) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"authorization", authorization)] if authorization else []
    scope = {"type": "http", "method": "GET", "path": "/v1/models", "query_string": b"", "headers": headers}
    caddy = create_caddy(create_engine_app(Engine("vllm")), token="t", is_up=lambda: is_up)
    await caddy({**scope, "http_version": "1.1", "root_path": "", "scheme": "http"}, receive, send)
    assert sent[0]["status"] == status
    assert header is None or header in sent[0]["headers"]
