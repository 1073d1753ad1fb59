"""Caddy inside a simulated instance: in front of an engine, it wants the instance's token and owns up to passing on.

Facts: vast.ai base image, `portal-aio/caddy_manager/caddy_config_manager.py`, 2026-08; Caddy 2.10 (`Via`).
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_PLACEHOLDER = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="UTF-8"><title>Loading...</title></head>
<body><p>The service is not available yet. This page reloads by itself.</p></body>
</html>
"""


class Doors(StrEnum):
    """Which ports of an instance lead to its engine."""

    OWN = "own"
    """The engine's own, as when Caddy's port is not mapped."""
    BOTH = "both"
    CADDY = "caddy"
    """Caddy's alone, as when the engine is in a container of its own."""


def create_caddy(app: ASGIApp, *, token: str, is_up: Callable[[], bool]) -> ASGIApp:
    """Caddy in front of `app`: 401 without the token; its placeholder while the engine is down."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if headers.get(b"authorization") != b"Bearer " + token.encode():
            await PlainTextResponse("Unauthorized", 401)(scope, receive, send)
            return
        if not is_up():
            marks = {"X-Portal-Placeholder": "true", "Server": "Caddy"}
            await HTMLResponse(_PLACEHOLDER, 502, marks)(scope, receive, send)
            return

        async def send_on(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"via", b"1.1 Caddy")]
            await send(message)

        await app(scope, receive, send_on)

    return serve
