"""A handler of your own for what happens in the fleet: lines for a chat (Slack, Mattermost, Discord with `/slack`).

The fleet publishes events: an instance was found, became healthy or not, an engine was taken out, a request failed, the
account could not be read. There are two ways to hear of them:

- `fleet.events.subscribe(listener)` calls a function at once, on the event loop; it must be quick and must not wait;
- `fleet.events.stream()` is an async iterator for whoever takes his time, as a chat does. It holds so many events, and
  when the chat is slow or away it loses the oldest and counts them. Nobody ever waits for it.

    CHAT_WEBHOOK_URL=https://hooks.slack.com/services/… python examples/chat_alerts.py

    python -m vastproxy.simulator python examples/chat_alerts.py     # without a chat: lines go to the terminal
"""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import requests
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

import vastproxy

#: Events that wait for the chat.
MOST_WAITING = 100


def line_of(happening: vastproxy.Happening) -> str | None:
    """What people should hear of an event; None for what they need not."""
    match happening.event:
        case vastproxy.StateChanged(instance_id, _, vastproxy.State.HEALTHY, _, _):
            return f":rabbit: instance {instance_id} serves"
        case vastproxy.StateChanged(instance_id, vastproxy.State.HEALTHY, after, _, detail):
            return f":turtle: instance {instance_id} is {after}: {detail}"
        case vastproxy.RequestFailed():
            return f":boom: {happening.text}"
    # Everything else that is more than news, in the words of the log.
    return f":warning: {happening.text}" if happening.level != "info" else None


def post(url: str | None, line: str) -> None:
    """One line for the chat; without one, for the terminal. Blocks."""
    if url is None:
        print(line, flush=True)
        return
    try:
        requests.post(url, json={"text": line}, timeout=5).raise_for_status()
    except requests.RequestException as error:
        # Such an address is a secret: whoever knows it can post. So only the kind of the error is told.
        print(f"the chat was not told: {type(error).__name__}", file=sys.stderr)


async def tell(stream: vastproxy.EventStream, url: str | None) -> None:
    """Everything that happens, one after the other, until the stream is closed."""
    lost = 0
    async for happening in stream:
        if stream.lost > lost:
            await asyncio.to_thread(post, url, f":grey_question: {stream.lost - lost} events were missed")
            lost = stream.lost
        if (line := line_of(happening)) is not None:
            await asyncio.to_thread(post, url, line)


def create() -> Starlette:
    """The proxy, and a chat that hears of it from its beginning to its end."""
    proxy = vastproxy.create_app()
    fleet: vastproxy.Fleet = proxy.state.fleet

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            with fleet.events.stream(limit=MOST_WAITING) as stream:
                tasks.create_task(tell(stream, os.environ.get("CHAT_WEBHOOK_URL")))
                async with vastproxy.mounted(proxy):
                    yield
            # The stream is closed: what it holds is still told, then the task ends.

    return Starlette(routes=[Mount("/", app=proxy)], lifespan=lifespan)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    port = int(os.environ.get("PORT", "8000"))
    # Streams may last for ever, and a server that is asked to end waits for them unless it is told for how long.
    uvicorn.run(create(), host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=30)
