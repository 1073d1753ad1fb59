"""A handler of your own for what happens in the fleet: lines for a chat (Slack, Mattermost, Discord with `/slack`).

The fleet publishes events: an instance was found, became healthy or not, an engine was taken out, the account could not
be read. A listener is called at once on the event loop, so it must not wait. This one puts lines into a queue, and one
thread sends them, one after the other; when the chat is slow or away, the oldest lines are dropped, and nobody waits.

    CHAT_WEBHOOK_URL=https://hooks.slack.com/services/… python examples/chat_alerts.py

    python -m vastproxy.simulator python examples/chat_alerts.py     # without a chat: lines go to the terminal
"""

import asyncio
import logging
import os
import queue
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import requests
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

import vastproxy

#: Lines that wait for the chat.
MOST_WAITING = 100


def line_of(event: vastproxy.FleetEvent) -> str | None:
    """What people should hear of an event; None for what they need not."""
    match event:
        case vastproxy.StateChanged(instance_id, _, vastproxy.State.HEALTHY, _, _):
            return f":rabbit: instance {instance_id} serves"
        case vastproxy.StateChanged(instance_id, vastproxy.State.HEALTHY, after, _, detail):
            return f":turtle: instance {instance_id} is {after}: {detail}"
        case vastproxy.EngineEjected(instance_id, port, for_s, detail):
            return f":warning: instance {instance_id} port {port} gets nothing for {for_s:g} s: {detail}"
        case vastproxy.TokenRefused(instance_id, port, detail):
            return f":key: instance {instance_id} port {port} refuses our token: {detail}"
        case vastproxy.PollFailed(error):
            return f":cloud: vast.ai cannot be read: {error}"
        case _:
            return None


class Chat:
    """A listener that posts. `url` None: lines go to standard output."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._send_all, name="chat", daemon=True)
        self._thread.start()

    def __call__(self, event: vastproxy.FleetEvent) -> None:
        """For `fleet.events.subscribe`. Waits for nothing."""
        if (line := line_of(event)) is not None:
            self._put(line)

    def close(self) -> None:
        """Send what waits, for at most five seconds."""
        self._put(None)
        self._thread.join(5.0)

    def _put(self, line: str | None) -> None:
        while True:
            try:
                self._lines.put_nowait(line)
            except queue.Full:
                self._lines.get_nowait()  # the oldest
            else:
                return

    def _send_all(self) -> None:
        while (line := self._lines.get()) is not None:
            if self._url is None:
                print(line, flush=True)
                continue
            try:
                requests.post(self._url, json={"text": line}, timeout=5).raise_for_status()
            except requests.RequestException as error:
                # Such an address is a secret: whoever knows it can post. So only the kind of the error is told.
                print(f"the chat was not told: {type(error).__name__}", file=sys.stderr)


def create() -> Starlette:
    """The proxy, and a chat that hears of it from its beginning to its end."""
    proxy = vastproxy.create_app()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        chat = Chat(os.environ.get("CHAT_WEBHOOK_URL"))
        unsubscribe = proxy.state.fleet.events.subscribe(chat)
        try:
            async with vastproxy.mounted(proxy):
                yield
        finally:
            unsubscribe()
            await asyncio.to_thread(chat.close)

    return Starlette(routes=[Mount("/", app=proxy)], lifespan=lifespan)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    uvicorn.run(create(), host="127.0.0.1", port=int(os.environ.get("PORT", "8000")), log_config=None)
