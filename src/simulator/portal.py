"""The instance portal inside a simulated instance: what vast.ai's own images answer on 127.0.0.1:11111.

Shapes: vast.ai base image, `portal-aio/portal/portal.py` and `portal-aio/capabilities`, 2026-08.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vastproxy.simulator.serving import AppServer

#: Where it listens inside the instance.
PORTAL_PORT = 11_111

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
    <meta charset="UTF-8">
    <title>Vast.ai Instance Portal</title>
</head>
<body>
    <div id="loader-text" class="loader-text">Loading Instance Portal...</div>
</body>
</html>
"""
_CAPABILITIES = ("chat", "completions", "embeddings", "models")


@dataclass(frozen=True, slots=True)
class Service:
    """A program of the instance. `external_port` is Caddy's, `mapped_port` that of the public address."""

    name: str
    internal_port: int
    external_port: int
    mapped_port: int | None = None
    open_path: str = "/"
    speaks_openai: bool = False
    process: str | None = None
    state: str = "RUNNING"


#: The engine's service in vast.ai's image of each kind. Raw images, such as those of TGI, have no portal.
_ENGINE_SERVICES: dict[str, tuple[str, int, str]] = {
    "sglang": ("SGLang API", 8000, "/docs"),
    "vllm": ("vLLM API", 8000, "/docs"),
    "llamacpp": ("Llama.cpp UI", 8000, "/"),
    "ollama": ("Ollama API", 21_434, "/"),
}


def image_services(flavour: str, engine_port: int, *, running: bool = True) -> tuple[Service, ...]:
    """What vast.ai's image for this engine shows in its portal; empty for an image that has none."""
    if flavour not in _ENGINE_SERVICES:
        return ()
    name, outside, path = _ENGINE_SERVICES[flavour]
    state = "RUNNING" if running else "FATAL"
    process = "llama" if flavour == "llamacpp" else flavour
    return (
        Service("Instance Portal", PORTAL_PORT, 1111, process="instance_portal"),
        Service(name, engine_port, outside, open_path=path, speaks_openai=True, process=process, state=state),
        Service("Jupyter", 18_080, 8080, state="vast-managed"),
    )


def create_portal(services: Callable[[], Sequence[Service]], *, public_ip: str = "") -> ASGIApp:
    """The portal as an ASGI app. `services` is asked anew for each answer."""

    async def endpoints(request: Request) -> Response:
        listed = [_endpoint(one, public_ip) for one in services() if one.speaks_openai]
        return JSONResponse(listed)

    async def all_services(request: Request) -> Response:
        return JSONResponse([_service(one, public_ip) for one in services()])

    async def page(request: Request) -> Response:
        return HTMLResponse(_PAGE)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def not_found(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": "Not Found"}, 404)

    routes = [
        Route("/", page),
        Route("/health", health),
        Route("/capabilities/endpoints", endpoints),
        Route("/capabilities/services", all_services),
    ]
    return Starlette(routes=routes, exception_handlers={404: not_found})


class InstancePortal:
    """The portal of one instance, on a unix socket to which its SSH server leads PORTAL_PORT."""

    def __init__(
        self, socket: Path, services: Callable[[], Sequence[Service]], *, public_ip: str = "127.0.0.1"
    ) -> None:
        self.socket = socket
        self._server = AppServer(create_portal(services, public_ip=public_ip), path=socket)

    @property
    def running(self) -> bool:
        return self._server.running

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()


def _base(service: Service, public_ip: str) -> str | None:
    """Where it is reached from outside; null without a mapped port."""
    return f"http://{public_ip}:{service.mapped_port}" if public_ip and service.mapped_port else None


def _endpoint(service: Service, public_ip: str) -> dict[str, Any]:
    base = _base(service, public_ip)
    return {
        "service": service.name,
        "base_url": f"{base}/v1" if base else None,
        "internal_base_url": f"http://localhost:{service.internal_port}/v1",
        "capabilities": list(_CAPABILITIES),
        "models_path": "/v1/models",
        "auth": {"type": "bearer", "token_env": ["OPEN_BUTTON_TOKEN", "WEB_PASSWORD"]},
    }


def _service(service: Service, public_ip: str) -> dict[str, Any]:
    base = _base(service, public_ip)
    return {
        "name": service.name,
        "hostname": "localhost",
        "internal_port": service.internal_port,
        "external_port": service.external_port,
        "open_path": service.open_path,
        "mapped_port": str(service.mapped_port or ""),
        "internal_url": f"http://localhost:{service.internal_port}",
        "direct_url": f"{base}{service.open_path}" if base else None,
        "supervisor_process": service.process,
        "state": service.state,
        "openai_v1_base": f"{base}/v1" if base and service.speaks_openai else None,
        "capabilities": list(_CAPABILITIES) if service.speaks_openai else None,
    }
