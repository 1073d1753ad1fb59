"""The application as a part of another one: whoever mounts it gives it its life.

A server tells the application that it runs when to begin and when to end (ASGI's lifespan), and that one alone;
Starlette and FastAPI do not pass it on to what is mounted in it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from vastproxy.services.fleet import Fleet


@asynccontextmanager
async def mounted(proxy: Starlette) -> AsyncIterator[Fleet]:
    """The life of what `create_app` has made, for the lifespan of the application that it is mounted in.

        @asynccontextmanager
        async def lifespan(app):
            async with vastproxy.mounted(proxy):
                yield

    Gives the fleet. At the end running requests are let go, labels are cleared and tunnels closed.
    """
    async with proxy.router.lifespan_context(proxy):
        fleet: Fleet = proxy.state.fleet
        yield fleet
