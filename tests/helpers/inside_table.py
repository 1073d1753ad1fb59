"""What is inside an instance, as a table: answers by port and path, for tests of who asks what and when."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from vastproxy.services.backends.fetch import NO_HEADERS, ProbeResponse
from vastproxy.services.backends.portal import ENDPOINTS_PATH, PORTAL_PORT, SERVICES_PATH
from vastproxy.services.errors import ChannelRefused

JSON = {"content-type": "application/json"}
NOT_FOUND = ProbeResponse(404, JSON, b'{"detail":"Not Found"}')
LOCKED = ProbeResponse(401, JSON, b'{"error":"Unauthorized"}')

Answer = ProbeResponse | Exception
Paths = dict[str, Answer]


def ok(value: Any) -> ProbeResponse:
    return ProbeResponse(200, JSON, json.dumps(value).encode())


def models(owner: str, *names: str) -> ProbeResponse:
    return ok({"object": "list", "data": [{"id": name, "owned_by": owner} for name in names]})


def vllm(*names: str) -> Paths:
    """It tells no load."""
    return {
        "/version": ok({"version": "0.11.0"}),
        "/health": ProbeResponse(200),
        "/v1/models": models("vllm", *names),
    }


def sglang(*names: str, running: int = 3) -> Paths:
    load = {"dp_rank": 0, "num_running_reqs": running, "num_waiting_reqs": 1, "max_running_requests": 48}
    return {
        "/get_model_info": ok({"model_path": "m", "tokenizer_path": "m", "is_generation": True}),
        "/health": ProbeResponse(200),
        "/v1/models": models("sglang", *names),
        "/v1/loads?include=core": ok({"loads": [load]}),
    }


def portal(**services: int) -> Paths:
    """A portal that lists these services with their ports."""
    return {
        ENDPOINTS_PATH: ok(
            [
                {"service": name, "internal_base_url": f"http://localhost:{port}/v1"}
                for name, port in services.items()
            ]
        ),
        SERVICES_PATH: ok([]),
    }


class InsideTable:
    """A `Fetch`. 404 to a path that is not there; a port that is not there is closed. `tokens`: ports that want one."""

    def __init__(
        self, ports: Mapping[int, Paths | Exception], *, tokens: Mapping[int, str] | None = None
    ) -> None:
        self.ports = {
            port: dict(paths) if isinstance(paths, dict) else paths for port, paths in ports.items()
        }
        self.tokens = dict(tokens or {})
        self.gates: dict[int, asyncio.Event] = {}
        """Ports that answer when this is set."""
        self.lost: Exception | None = None
        """Raised by every question, as by a tunnel that is gone."""
        self.asked: list[tuple[int, str]] = []

    def take_asked(self) -> Sequence[tuple[int, str]]:
        """What was asked since the last call."""
        asked, self.asked = self.asked, []
        return asked

    async def __call__(
        self,
        port: int,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes = b"",
        timeout_s: float,
    ) -> ProbeResponse:
        self.asked.append((port, path))
        if port in self.gates:
            await self.gates[port].wait()
        if self.lost is not None:
            raise self.lost
        if port == PORTAL_PORT:
            assert "authorization" not in headers
        paths = self.ports.get(port, ChannelRefused(f"port {port} is closed"))
        if isinstance(paths, Exception):
            raise paths
        if port in self.tokens and headers.get("authorization") != f"Bearer {self.tokens[port]}":
            return LOCKED
        answer = paths.get(path, paths.get("*", NOT_FOUND))
        if isinstance(answer, Exception):
            raise answer
        return answer
