"""The proxy inside your own application: your pages, your server, and `/llm` in front of your GPUs.

`create_app` gives the whole product as an ASGI application. It is mounted here below `/llm` in a Starlette application
(FastAPI mounts in the same way), and any ASGI server may run it: this one is plain uvicorn. What is mounted is not told
by the server when to begin and to end, so the lifespan of your application does that, with `mounted`.

    python -m vastproxy.simulator python examples/embed.py          # an account that does not exist
    curl http://127.0.0.1:8000/
    curl -N http://127.0.0.1:8000/llm/v1/chat/completions -H 'Content-Type: application/json' \
      -d '{"model": "Qwen/Qwen3-8B", "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}'

Things to know:

- Keys (`server.api_keys`, `vastproxy keys`) are checked for what is below `/llm` alone. If your application decides who
  may ask, leave them out, and let requests come by your own names: `server.allowed_hosts`.
- `vastproxy serve` has a faster HTTP server, which cannot be mounted: WebSockets and interim responses need it.
- Run one process. Each process is a whole proxy, with its own connections and its own picture of the fleet.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

import vastproxy


def create() -> Starlette:
    """Your application. A factory: nothing is read and nothing begins when the module is imported."""
    # Flags, environment, .env and config file, as for `vastproxy serve`; what you say here comes before them.
    settings = vastproxy.load_settings(overrides={"routing.session_header": "X-Chat-Id"})
    proxy = vastproxy.create_app(settings)
    fleet: vastproxy.Fleet = proxy.state.fleet

    async def home(request: Request) -> Response:
        """A page of yours that shows what the fleet knows."""
        now = fleet.summary()
        backends = [{"id": one.id, "state": one.state, "models": one.models} for one in fleet.each_backend()]
        return JSONResponse({"status": now.status, "reason": now.reason, "backends": backends})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with vastproxy.mounted(proxy):
            yield

    return Starlette(routes=[Route("/", home), Mount("/llm", app=proxy)], lifespan=lifespan)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    port = int(os.environ.get("PORT", "8000"))
    # Streams may last for ever, and a server that is asked to end waits for them unless it is told for how long.
    uvicorn.run(create(), host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=30)
