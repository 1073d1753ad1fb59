"""A server with the dashboard's own files and, behind them, endpoints that tell what a test wants."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.helpers import dashboard_scene as scene
from tests.helpers.dashboard_requests import requests
from tests.helpers.ports import free_port
from vastproxy.api.dashboard.pages import OPEN_PATHS, dashboard_routes
from vastproxy.api.page_headers import hardened

V1 = "/vastproxy/v1"


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return contextlib.nullcontext()


def refusal(status: int, code: str, message: str) -> Response:
    """An error in the proxy's shape."""
    return JSONResponse({"error": {"message": message, "type": "x", "code": code, "param": None}}, status)


class DashboardServer:
    """Everything it tells can be changed at any time; `push` tells streams that the fleet has changed.

    `keys`: which ones are accepted, with what right ("admin" or "inference"); none: nobody needs one. `missing`:
    endpoints, by their first word, that this proxy does not have. `asked`: (method, path with query, key, body) of
    all requests to the endpoints.
    """

    def __init__(self, *, count: int = 6, now: float | None = None) -> None:
        self.now = time.time() if now is None else now
        self.fleet: dict[str, Any] = scene.fleet(count, now=self.now)
        self.events = scene.events(now=self.now)
        self.points = scene.points(now=self.now)
        self.requests = requests(now=self.now)
        self.instance: dict[str, Any] = {"image": "vllm/vllm-openai:v0.10", "actual_status": "running"}
        self.cost: dict[str, Any] = {}
        self.changes: list[dict[str, Any]] = []
        self.keys: Mapping[str, str] = {}
        self.missing: frozenset[str] = frozenset()
        self.asked: list[tuple[str, str, str | None, Any]] = []
        self.streams = 0
        self.port = 0
        self._changed = asyncio.Condition()
        self._turn = 0
        self._ended = 0

    @property
    def url(self) -> str:
        """The dashboard's address."""
        return f"http://127.0.0.1:{self.port}/vastproxy/"

    def asked_for(self, *words: str) -> list[tuple[str, str, str | None, Any]]:
        """Of what was asked, that whose method and path have all of these words."""
        return [one for one in self.asked if all(word in f"{one[0]} {one[1]}" for word in words)]

    async def push(self) -> None:
        """Streams tell the fleet, and what has happened since, anew."""
        async with self._changed:
            self._turn += 1
            self._changed.notify_all()

    async def drop(self) -> None:
        """Streams end."""
        async with self._changed:
            self._ended += 1
            self._changed.notify_all()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port of before if there was one."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Not just any port: one of those could be somebody else's when the server is started again.
        listener.bind(("127.0.0.1", self.port or free_port()))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._front,
            interface="asgi3",
            lifespan="off",
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listener]))
        self._app = Starlette(routes=self._routes())
        while not self._server.started:
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        """Listen no more, and end all connections."""
        await self.drop()
        self._server.should_exit = True
        await self._task

    async def _front(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the proxy's own front does: its headers, and keys."""
        path = scope["path"]
        request = Request(scope, receive)
        told = request.headers.get("authorization", "")
        key = told.removeprefix("Bearer ") or None
        if path.startswith(V1):
            body = json.loads(await request.body()) if request.method == "POST" else None
            scope["state"] = {"sent": body}
            address = path.removeprefix(V1) + (f"?{request.url.query}" if request.url.query else "")
            self.asked.append((request.method, address, key, body))
        answer: Any = self._app
        if self.keys and path not in OPEN_PATHS:
            right = self.keys.get(key or "")
            if right is None:
                answer = refusal(401, "invalid_api_key", "Incorrect API key provided.")
            elif right != "admin":
                answer = refusal(403, "insufficient_permissions", "This API key has no admin rights.")
        if path.removeprefix(f"{V1}/").partition("/")[0] in self.missing:
            answer = refusal(404, "not_found", "Not Found.")
        await answer(scope, receive, hardened(send))

    def _routes(self) -> list[Route]:
        return [
            *dashboard_routes(),
            Route(f"{V1}/live", self._live),
            Route(f"{V1}/history", self._history),
            Route(f"{V1}/cost", self._cost),
            Route(f"{V1}/machines", self._machines),
            Route(f"{V1}/requests", self._requests),
            Route(f"{V1}/requests/{{id}}/cancel", self._cancel, methods=["POST"]),
            Route(f"{V1}/requests/{{id:path}}", self._request),
            Route(f"{V1}/abort", self._abort, methods=["POST"]),
            Route(f"{V1}/backends/{{id}}", self._backend),
            Route(f"{V1}/backends/{{id}}/trust", self._trust),
            Route(f"{V1}/backends/{{id}}/{{act}}", self._act, methods=["POST"]),
        ]

    async def _live(self, request: Request) -> Response:
        first = int(request.headers.get("last-event-id", "0"))

        async def told() -> AsyncIterator[str]:
            self.streams += 1
            seq, turn, ended = first, self._turn, self._ended
            try:
                while self._ended == ended:
                    yield f"event: fleet\ndata: {json.dumps(self.fleet)}\n\n"
                    for one in self.events:
                        if one["seq"] > seq:
                            seq = one["seq"]
                            yield f"event: happened\nid: {seq}\ndata: {json.dumps(one)}\n\n"
                    async with self._changed:
                        while self._turn == turn and self._ended == ended:
                            await self._changed.wait()
                    turn = self._turn
            finally:
                self.streams -= 1

        return StreamingResponse(told(), media_type="text/event-stream")

    async def _history(self, request: Request) -> Response:
        return JSONResponse({"step_s": 10, "points": self.points})

    async def _cost(self, request: Request) -> Response:
        return JSONResponse(self.cost or scene.cost(now=self.now, by=request.query_params["by"]))

    async def _machines(self, request: Request) -> Response:
        return JSONResponse({"machines": scene.machines(now=self.now)})

    async def _requests(self, request: Request) -> Response:
        state = request.query_params.get("state")
        return JSONResponse(
            {"requests": [one for one in self.requests if state is None or one["state"] == state]}
        )

    async def _request(self, request: Request) -> Response:
        found = [one for one in self.requests if one and one.get("id") == request.path_params["id"]]
        return (
            JSONResponse(found[0])
            if found
            else refusal(404, "not_found", "No request of this id is remembered.")
        )

    async def _cancel(self, request: Request) -> Response:
        for one in self.requests:
            if one["id"] == request.path_params["id"]:
                was, one["state"], one["status"] = one["state"], "done", 503
                return JSONResponse({"id": one["id"], "was": was, "cancelled": True})
        return refusal(404, "not_found", "No request of this id is remembered.")

    async def _abort(self, request: Request) -> Response:
        running = [one for one in self.requests if one["state"] != "done"]
        for one in running:
            one["state"], one["status"] = "done", 503
        return JSONResponse({"cancelled": len(running)})

    def _find(self, request: Request) -> dict[str, Any] | None:
        id, backends = request.path_params["id"], self.fleet["backends"]
        return next((one for one in backends if isinstance(one, dict) and str(one.get("id")) == id), None)

    async def _backend(self, request: Request) -> Response:
        if (one := self._find(request)) is None:
            return refusal(404, "not_found", "No such instance is served here.")
        return JSONResponse(one | {"instance": {"id": one["id"], **self.instance}, "events": []})

    async def _trust(self, request: Request) -> Response:
        return JSONResponse({"id": request.path_params["id"], "changes": self.changes})

    async def _act(self, request: Request) -> Response:
        one, act = self._find(request), request.path_params["act"]
        if one is None:
            return refusal(404, "not_found", "No such instance is served here.")
        if act in ("drain", "undrain"):
            one["state"] = "draining" if act == "drain" else "healthy"
        elif act == "destroy":
            if request.state.sent.get("confirm") != str(one["id"]):
                return refusal(400, "not_confirmed", "confirm must be the id.")
            self.fleet["backends"].remove(one)
        await self.push()
        return JSONResponse({"id": one["id"], "forgotten": 1, "destroyed": True})
