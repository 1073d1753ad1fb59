"""The event loop that the server runs on."""

import asyncio
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes it; None for asyncio's own."""
    try:
        import uvloop
    except ImportError:  # not built for this platform; asyncio's own loop is slower but the same
        return None
    return uvloop.new_event_loop
