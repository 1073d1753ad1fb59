"""`vastproxy serve`: the proxy, from the first setting read to the last tunnel closed."""

import asyncio
import contextlib
import functools
import gc
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from starlette.applications import Starlette

from vastproxy.api.access import AccessLog
from vastproxy.api.app import build_fleet, create_app, running
from vastproxy.api.auth import KeyRing
from vastproxy.api.http.departures import Departures
from vastproxy.api.http.protocol import HttpProtocol
from vastproxy.api.http.tls import ServerTls
from vastproxy.cli.descriptors import raise_open_files
from vastproxy.cli.hangup import Hangup, handled
from vastproxy.cli.listener import bound, explained, url_of
from vastproxy.cli.logs import set_up_logging
from vastproxy.cli.loops import loop_factory
from vastproxy.cli.options import AsciiOnly, NoDashboard
from vastproxy.cli.top.beside import Beside, can_show
from vastproxy.services.fleet import Fleet
from vastproxy.services.http1.headers import request_fields
from vastproxy.services.metrics.metrics import Metrics
from vastproxy.services.tasks import Tasks, every
from vastproxy.services.tunnels.base import TunnelEngine
from vastproxy.services.tunnels.factory import make_engine
from vastproxy.services.tunnels.passphrase import terminal_prompt
from vastproxy.settings import Settings, effective_environ, load
from vastproxy.settings.listen import require_keys
from vastproxy.settings.model import ServerSettings
from vastproxy.settings.paths import expand_home
from vastproxy.vastai import VastClient

logger = logging.getLogger(__name__)

#: Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn (4096 on current Linux).
BACKLOG = 4096
#: Time between two notes of which keys are used.
NOTE_USE_EVERY_S = 60.0
#: Time between two looks at the files of the certificate.
TLS_LOOK_EVERY_S = 1.0


def serve(
    listen: Annotated[
        str | None, typer.Option(help="host:port to listen on (LISTEN_ADDR).", show_default="127.0.0.1:8080")
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Listen on a non-loopback address although no inbound keys are set."),
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="Certificate (PEM): listen with HTTPS.")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="Its private key, if that is not in the same file.")
    ] = None,
    ssh_key: Annotated[str | None, typer.Option(help="SSH private key (SSH_KEY_PATH).")] = None,
    label: Annotated[
        str | None, typer.Option(help="Label for healthy instances, or 'none' (VASTPROXY_LABEL).")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    no_tui: NoDashboard = False,
    ascii_only: AsciiOnly = False,
    config: Annotated[Path | None, typer.Option(help="Config file (VASTPROXY_CONFIG).")] = None,
) -> None:
    """Serve your running instances as one endpoint.

    Finds every running instance of the account, connects over SSH, and balances OpenAI-compatible requests over the
    engines inside. Needs VAST_API_KEY and an SSH key that is registered with vast.ai. Ctrl-C stops accepting and
    lets running streams end; a second Ctrl-C ends at once.

    On a terminal it shows a dashboard; q leaves it and asks whether to stop the proxy too. With --no-tui, or where
    there is no terminal, it writes its log.

    Examples:

      vastproxy serve

      vastproxy serve --no-tui

      vastproxy keys create web && vastproxy serve --listen 0.0.0.0:8080 --tls-cert cert.pem --tls-key key.pem
    """
    overrides: dict[str, object] = {
        "server.listen": listen,
        "server.insecure": insecure,
        "server.tls_cert": tls_cert,
        "server.tls_key": tls_key,
        "tunnels.key_path": ssh_key,
        "fleet.label": label,
        "logging.level": log_level,
    }
    loaded = load(overrides=overrides, config_path=config)
    with set_up_logging(loaded.settings.logging) as logs:
        log = AccessLog(enabled=loaded.settings.logging.access, form=logs.form, sink=logs.access_sink)
        raise_open_files()
        spare_garbage_collection()
        hangup = Hangup(logs, lambda: load(overrides=overrides, config_path=config).settings.logging)
        ready = Beside(logs, ascii_only=ascii_only) if not no_tui and can_show() else None
        code = run(loaded.settings, access_log=log, hangup=hangup, ready=ready)
    raise typer.Exit(code)


def spare_garbage_collection() -> None:
    """Look for cycles less often, and never among what is loaded by now: a request leaves none behind."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def run(
    settings: Settings,
    *,
    access_log: AccessLog | None = None,
    hangup: Hangup | None = None,
    ready: Callable[["RunningServer"], Awaitable[None]] | None = None,
) -> int:
    """Serve until a signal ends it, on uvloop. Returns the exit code. `ready`: as in `run_server`."""
    # Before there is a loop: a person may be asked for a passphrase, and a signal shall end the question.
    engine = make_engine(settings.tunnels, environ=effective_environ(), prompt=terminal_prompt())
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(
            run_server(settings, engine=engine, access_log=access_log, hangup=hangup, ready=ready)
        )


class RunningServer:
    """A server that listens. `url` has the real port; `request_stop` is the polite end, twice the abrupt one."""

    def __init__(self, server: "_Server", fleet: Fleet, url: str, keys: KeyRing) -> None:
        self._server = server
        self.keys = keys
        self.fleet = fleet
        self.url = url

    @property
    def is_stopping(self) -> bool:
        """Has it been asked to end? Then nobody is served any more who has not been before."""
        return self._server.should_exit

    def request_stop(self) -> None:
        if self._server.should_exit:
            self.fleet.hurry()
        self._server.request_stop()


async def run_server(
    settings: Settings,
    *,
    client: VastClient | None = None,
    engine: TunnelEngine | None = None,
    access_log: AccessLog | None = None,
    hangup: Hangup | None = None,
    metrics: Metrics | None = None,
    ready: Callable[[RunningServer], Awaitable[None]] | None = None,
) -> int:
    """Serve until stopped: by a signal, or by `RunningServer.request_stop`. Returns the exit code.

    `hangup` is told of SIGHUP; without it that signal is left as it was. `metrics`: those that `client` tells of its
    calls, if one is given.
    `ready` runs as a task once the socket listens; when it raises, the server stops and the error is raised here.
    Raises SettingsError when it cannot begin: a key is missing, the port is taken, the address needs keys.
    """
    tls = server_tls(settings.server, effective_environ())
    metrics = Metrics(settings.metrics) if metrics is None else metrics
    fleet = build_fleet(settings, client=client, engine=engine, metrics=metrics)
    app = create_app(settings, fleet=fleet, access_log=access_log, metrics=metrics)
    keys: KeyRing = app.state.entrance.keys
    address = require_keys(settings.server.listen, has_keys=bool(keys), insecure=settings.server.insecure)
    with bound(address, backlog=BACKLOG) as listener:
        server = _Server(server_config(app, settings.server, tls=tls))
        url = url_of(listener, tls=tls is not None)
        hint = explained(settings.server.listen, address)
        told = "listening on %s (base_url for clients: %s/v1, dashboard: %s/vastproxy/)%s"
        logger.info(told, url, url, url, hint)
        fleet.live.url = f"{url}/v1"
        handle = RunningServer(server, fleet, url, keys)
        # Until the very end: by itself, a signal during the last calls would end the process in the middle of them.
        stop = handle.request_stop
        hung_up = None if hangup is None else functools.partial(hangup.heard, stop)
        with handled({signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: hung_up}):
            async with running(fleet):
                await _serve(server, listener, handle, ready, keys, tls)
                logger.info("no more streams; clearing labels and closing tunnels")
    return 0


def server_tls(settings: ServerSettings, environ: Mapping[str, str]) -> ServerTls | None:
    """The TLS that the settings ask for. Raises SettingsError when its files cannot be used."""
    if settings.tls_cert is None:
        return None
    key = None if settings.tls_key is None else expand_home(settings.tls_key, environ)
    return ServerTls(expand_home(settings.tls_cert, environ), key)


def server_config(
    app: Starlette, settings: ServerSettings, *, tls: ServerTls | None = None
) -> uvicorn.Config:
    """How the HTTP server is set up: with our protocol, and silent. `app` is what `create_app` made."""
    protocol = functools.partial(
        HttpProtocol,
        entrance=app.state.entrance,
        limits=settings,
        fields=request_fields(),
        departures=Departures(),
    )
    config = uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]  # declared as a class, called as a factory
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nobody in front of us is known, so nobody's word for an address counts
        backlog=BACKLOG,
        timeout_graceful_shutdown=settings.shutdown_grace_s,  # type: ignore[arg-type]  # a float works
    )
    if tls is not None:
        config.load()  # which would make a context of its own
        config.ssl = tls.context
    return config


async def _serve(
    server: "_Server",
    listener: socket.socket,
    handle: RunningServer,
    ready: Callable[[RunningServer], Awaitable[None]] | None,
    keys: KeyRing,
    tls: ServerTls | None,
) -> None:
    tasks = Tasks("serve")

    async def look(at: ServerTls) -> None:
        at.look()

    tasks.spawn(every(NOTE_USE_EVERY_S, keys.note_use), name="keys")
    if tls is not None:
        tasks.spawn(every(TLS_LOOK_EVERY_S, functools.partial(look, tls)), name="tls")

    async def companion(work: Callable[[RunningServer], Awaitable[None]]) -> None:
        try:
            await work(handle)
        except BaseException:
            server.request_stop()
            raise

    beside = tasks.spawn(companion(ready), name="ready") if ready is not None else None
    await server.serve(sockets=[listener])
    if beside is not None and beside.done() and not beside.cancelled():
        beside.result()
    await tasks.aclose()
    await keys.note_use()


class _Server(uvicorn.Server):
    """uvicorn's server, ended by us: it would end the process by the signal before tunnels are closed."""

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._abort_connections()  # what the grace was too short for
        if self.force_exit:  # uvicorn leaves the lifespan hanging then, and the loop ends it with a traceback
            await self.lifespan.shutdown()

    def request_stop(self) -> None:
        """First: accept nothing more, let streams end. Second: end them."""
        if not self.should_exit:
            self.should_exit = True
            app: Any = self.config.app
            app.state.live.close()  # dashboards, who would stay as long as they may
            running = sum(connection.at_work for connection in self._connections())
            if running:
                logger.info(
                    "stopping: %d requests are running and may end within %.0f s; a second signal ends them",
                    running,
                    self.config.timeout_graceful_shutdown or 0,
                )
            return
        self.force_exit = True
        self._abort_connections()

    def _connections(self) -> list[HttpProtocol]:
        connections: set[Any] = self.server_state.connections  # declared as uvicorn's own protocols
        return [each for each in connections if isinstance(each, HttpProtocol)]

    def _abort_connections(self) -> None:
        for connection in self._connections():
            connection.abort()
