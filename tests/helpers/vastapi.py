"""A stand-in vast.ai REST API with real HTTP on 127.0.0.1: rows as a test sets them, every request recorded.

    async with VastApi() as api:
        api.set_instances([make_row(id=1)])
        api.faults.always(Fault.BAD_GATEWAY_HTML)
        await api.until(lambda: len(api.lists) >= 2)

Paging, filters, key check, label writes and faults are the simulator's, whose shapes are those of vast.ai's
documentation. `with VastApi() as api` serves from a thread of its own, for tests without a loop.
"""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.helpers.ports import free_port
from vastproxy.simulator.account import Account
from vastproxy.simulator.api import create_api
from vastproxy.simulator.faults import Fault, Faults

__all__ = ["ApiRequest", "Fault", "VastApi"]

KEY = "test-key"


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request as it arrived. `headers` have names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Server(uvicorn.Server):
    """Leaves the signals of the test run alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class VastApi:
    """The switches may be used at any time; `stop` and `start` keep the port.

    rate_limits: refuse calls that come faster than vast.ai allows.
    """

    def __init__(self, *, key: str = KEY, rate_limits: bool = False) -> None:
        self.account = Account(api_key=key, rate_limits=rate_limits)
        self.requests: list[ApiRequest] = []
        self.refuse_writes: int | None = None
        """Status with which everything but reading is refused, as for a key without the right to write."""
        self.port = 0
        self._app = _Recorder(create_api(self.account), self)
        self._changed = asyncio.Condition()
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def faults(self) -> Faults:
        """What goes wrong next: `next(Fault.…, times=2, method="PUT")`, `always`, `clear`, `release`."""
        return self.account.faults

    # -- the account -----------------------------------------------------------------------------------

    def set_instances(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """From now on the account has exactly these, each exactly as its row says."""
        for contract in self.account.contracts:
            self.account.remove(contract.id)
        for row in rows:
            self.account.add(id=row["id"]).row = dict(row)

    def change(self, instance_id: int, **fields: Any) -> None:
        """Change fields of one row; others, the label among them, stay as they are."""
        self.account.contract(instance_id).row |= fields

    def remove(self, instance_id: int) -> None:
        """The instance is in no list any more."""
        self.account.remove(instance_id)

    def labels(self) -> dict[int, str]:
        """The label of each instance, "" where there is none."""
        return {contract.id: contract.label or "" for contract in self.account.contracts}

    # -- what was asked --------------------------------------------------------------------------------

    @property
    def lists(self) -> list[ApiRequest]:
        """First pages of the list that were asked for."""
        return [
            one
            for one in self.requests
            if (one.method, one.path) == ("GET", "/api/v1/instances/") and "after_token" not in one.query
        ]

    def label_writes(self, instance_id: int | None = None) -> list[str]:
        """The labels that were sent, whether or not they were accepted, in order; of one instance, or all."""
        path = f"/api/v0/instances/{instance_id}/"
        return [
            one.json["label"]
            for one in self.requests
            if one.method == "PUT" and b'"label"' in one.body and (instance_id is None or one.path == path)
        ]

    async def until(self, condition: Callable[[], bool], *, limit_s: float = 30.0) -> None:
        """Wait for a condition on this object; looked at after each request, before and after its answer."""
        async with asyncio.timeout(limit_s), self._changed:
            await self._changed.wait_for(condition)

    async def record(self, request: ApiRequest) -> None:
        self.requests.append(request)
        await self.notify()

    async def notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # -- life ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Not just any port: one of those could be somebody else's when the API is started again.
        listener.bind(("127.0.0.1", self.port or free_port()))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(self._app, loop="none", lifespan="off", log_config=None, access_log=False)
        self._server = _Server(config)
        self._serving = asyncio.get_running_loop().create_task(
            self._serve(self._server, listener), name=f"vast.ai:{self.port}"
        )
        while not self._server.started:
            if self._serving.done():
                await self._serving
            await asyncio.sleep(0)

    @staticmethod
    async def _serve(server: _Server, listener: socket.socket) -> None:
        with listener:
            await server.serve(sockets=[listener])

    async def stop(self) -> None:
        """Nobody listens any more, and every connection is cut, in the middle of whatever it carries."""
        if self._server is None or self._serving is None:
            return
        server, serving = self._server, self._serving
        self._server = self._serving = None
        server.should_exit = server.force_exit = True
        for connection in list(server.server_state.connections):
            if (transport := getattr(connection, "transport", None)) is not None:
                transport.abort()
        await serving
        for task in list(server.server_state.tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._in_thread(ready),), name="vast.ai")
        self._thread.start()
        assert ready.wait(30), "the stand-in for vast.ai did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        self._end.get_loop().call_soon_threadsafe(self._end.set_result, None)
        self._thread.join(10)

    async def _in_thread(self, ready: threading.Event) -> None:
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with self:
            ready.set()
            await self._end


class _Recorder:
    """ASGI: notes each request with its body, then lets the API answer it."""

    def __init__(self, app: ASGIApp, api: VastApi) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        await self._api.record(ApiRequest(scope["method"], scope["path"], query, headers, bytes(body)))
        app: ASGIApp = self._app
        if self._api.refuse_writes is not None and scope["method"] != "GET":
            refusal = {"success": False, "msg": "This key does not have the permission instance_write."}
            app = JSONResponse(refusal, self._api.refuse_writes)
        await app(scope, _replay(bytes(body), receive), send)
        await self._api.notify()


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
