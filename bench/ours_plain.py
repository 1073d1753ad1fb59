"""vastproxy without SSH: `python -m bench.ours_plain`, the same program as `vastproxy serve` with tunnels of plain TCP.

Reads its settings as `vastproxy serve` does. What differs is the engine of the tunnels alone.
"""

import asyncio
import socket
import sys

import uvicorn
import uvloop

from bench.plain_tunnel import PlainEngine
from vastproxy.api.access import AccessLog
from vastproxy.api.app import create_app, running
from vastproxy.cli.logs import set_up_logging
from vastproxy.cli.serve import BACKLOG, server_config, spare_garbage_collection
from vastproxy.services.fleet import Fleet
from vastproxy.settings import Settings, load
from vastproxy.settings.listen import require_keys
from vastproxy.vastai import VastConfig, get_client


async def serve(settings: Settings, access_log: AccessLog) -> None:
    """Serve until a signal ends it."""
    client = get_client(VastConfig.from_settings(settings.vast))
    fleet = Fleet(settings, client, PlainEngine(gpus=1))
    address = require_keys(settings.server.listen, has_keys=bool(settings.server.api_keys), insecure=False)
    with socket.create_server((address.host, address.port), backlog=BACKLOG) as listener:
        app = create_app(settings, fleet=fleet, access_log=access_log)
        server = uvicorn.Server(server_config(app, settings.server))
        async with running(fleet):
            await server.serve(sockets=[listener])


def main() -> int:
    settings = load(overrides={}, config_path=None).settings
    spare_garbage_collection()
    with set_up_logging(settings.logging) as logs:
        log = AccessLog(enabled=settings.logging.access, form=logs.form, sink=logs.access_sink)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, log))
    return 0


if __name__ == "__main__":
    sys.exit(main())
