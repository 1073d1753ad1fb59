"""`vastproxy demo`: the real server in front of a simulated account. Needs no key, no GPU, no network."""

import asyncio
import contextlib
import errno
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from vastproxy.cli.demo_client import ask
from vastproxy.cli.demo_load import chaos as chaos_beside
from vastproxy.cli.demo_load import clients as asking_clients
from vastproxy.cli.demo_view import DemoView
from vastproxy.cli.logs import set_up_logging
from vastproxy.cli.options import AsciiOnly, NoDashboard
from vastproxy.cli.render import stdout
from vastproxy.cli.serve import RunningServer, run_server
from vastproxy.cli.top.beside import Beside, can_show
from vastproxy.errors import VastproxyError
from vastproxy.services.metrics.metrics import Metrics
from vastproxy.services.tasks import Tasks
from vastproxy.services.threads import in_thread
from vastproxy.settings import Settings
from vastproxy.settings.logs import LoggingSettings
from vastproxy.settings.model import (
    EngineSettings,
    FleetSettings,
    ServerSettings,
    TunnelSettings,
    UpstreamSettings,
    VastCacheSettings,
    VastSettings,
)
from vastproxy.simulator.simulation import Simulation
from vastproxy.vastai import Monitor, VastClient, VastConfig

FIRST_PORT = 8080
#: Ports tried from FIRST_PORT on when no address is given.
PORTS_TRIED = 20
#: How long the backends may take to come up; on a laptop it is about two seconds.
READY_LIMIT_S = 60.0
QUESTION = "Why is the sky blue?"
#: Clients that ask all the time, where there are some.
CLIENTS = 3


class DemoFailed(VastproxyError):
    """The demo did not show what it should."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What was asked for. `listen` is None for the first free port."""

    instances: int
    listen: str | None
    tokens_per_s: float
    seed: int
    chaos: bool
    once: bool
    clients: int


def demo(
    instances: Annotated[int, typer.Option(min=1, max=50, help="Simulated GPU instances.")] = 3,
    chaos: Annotated[
        bool, typer.Option("--chaos", help="Break instances while requests run, and say what breaks.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="End after the sample. Exit code 0 only if all of it worked.")
    ] = False,
    listen: Annotated[
        str | None,
        typer.Option(help="host:port to listen on.", show_default="127.0.0.1:8080 or the next free port"),
    ] = None,
    tokens_per_s: Annotated[
        float, typer.Option(min=0.1, max=10_000, help="Speed of each simulated engine.")
    ] = 60.0,
    seed: Annotated[int, typer.Option(help="Fixes the answers and the order of the chaos.")] = 0,
    clients: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100,
            help="Clients that ask all the time.",
            show_default=f"{CLIENTS} with --chaos or the dashboard, else none",
        ),
    ] = None,
    no_tui: NoDashboard = False,
    ascii_only: AsciiOnly = False,
) -> None:
    """Try it on a simulated account: no key, no GPU.

    Starts simulated instances with real SSH servers and engines on this machine, serves them as `vastproxy serve`
    would, and asks one question. Then it stays up for your own requests until Ctrl-C. On a terminal it shows the
    dashboard, and what is asked and told stands in its log (press l).

    Examples:

      vastproxy demo

      vastproxy demo --instances 5 --chaos

      vastproxy demo --once
    """
    logs = set_up_logging(LoggingSettings(level="error"))
    dashboard = Beside(logs, ascii_only=ascii_only) if not (no_tui or once) and can_show() else None
    if clients is None:
        clients = CLIENTS if chaos or dashboard is not None else 0
    wanted = Demo(instances, listen, tokens_per_s, seed, chaos, once, clients)
    raise typer.Exit(asyncio.run(play(wanted, DemoView(stdout()), dashboard)))


async def play(wanted: Demo, view: DemoView, dashboard: Beside | None = None) -> int:
    """Run the whole demo. Returns the exit code; raises VastproxyError when it does not work."""
    simulation = Simulation(instances=wanted.instances, tokens_per_s=wanted.tokens_per_s, seed=wanted.seed)
    with tempfile.TemporaryDirectory(prefix="vastproxy-demo-") as state_dir:
        async with simulation:
            view.account(simulation.url, [machine.id for machine in simulation.instances])
            settings = demo_settings(simulation, wanted.listen or free_address(), Path(state_dir))
            metrics = Metrics(settings.metrics)
            with client_of(simulation, settings, monitor=metrics.vast_api) as client:

                async def ready(server: RunningServer) -> None:
                    if dashboard is not None:
                        await show_beside(dashboard, wanted, simulation, server, view)
                    else:
                        await show(wanted, simulation, server, view)
                    if wanted.once:
                        server.request_stop()

                return await run_server(settings, client=client, metrics=metrics, ready=ready)


def demo_settings(simulation: Simulation, listen: str, state_dir: Path) -> Settings:
    """Settings of a proxy for this account: the defaults, but quicker to notice things, so that people see them."""
    return Settings(
        environment="development",
        vast=VastSettings(url=simulation.url, cache=VastCacheSettings(ttl_s=0.5)),
        server=ServerSettings(listen=listen, shutdown_grace_s=3.0),
        fleet=FleetSettings(poll_interval_s=2.0, probe_interval_s=1.0, unhealthy_after=2),
        engines=EngineSettings(health_timeout_s=3.0),
        tunnels=TunnelSettings(
            key_path=str(simulation.ssh_key_path),
            state_dir=str(state_dir),
            connect_timeout_s=3.0,
            keepalive_interval_s=1.0,
            backoff_min_s=0.5,
            backoff_max_s=3.0,
            upgrade_interval_s=3.0,
        ),
        upstream=UpstreamSettings(headers_timeout_s=10.0, idle_timeout_s=10.0),
        logging=LoggingSettings(level="error"),
    )


@contextlib.contextmanager
def client_of(
    simulation: Simulation, settings: Settings, *, monitor: Monitor | None = None
) -> Iterator[VastClient]:
    """The client of the simulated account. Neither the environment nor a key file is asked for a key."""
    config = VastConfig(
        simulation.api_key,
        url=simulation.url,
        key_source="the demo",
        retries=settings.vast.retries,
        cache=settings.vast.cache,
    )
    with VastClient(config, monitor=monitor) as client:
        yield client


def free_address(first: int = FIRST_PORT, tried: int = PORTS_TRIED) -> str:
    """The first loopback port from `first` on that nobody uses; any free one when all of them are taken."""
    for port in range(first, first + tried):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                continue
            return f"127.0.0.1:{port}"
    return "127.0.0.1:0"


async def show(wanted: Demo, simulation: Simulation, server: RunningServer, view: DemoView) -> None:
    """What people see: backends coming up, one answer, how to ask, and what they want besides."""
    await backends_up(server, wanted.instances, view)
    model = simulation.instances[0].engine.model
    await sample(server.url, model, view)
    view.how_to_ask(server.url, model)
    if not wanted.clients:
        return
    if wanted.chaos:
        view.chaos_begins(wanted.clients)
    async with asking_clients(wanted.clients, server.url, model, view, over=lambda: server.is_stopping):
        if wanted.chaos:
            await chaos_beside(simulation, wanted.seed, view, once=wanted.once)
        elif not wanted.once:
            await asyncio.Event().wait()
    await backends_up(server, 1, view)
    await sample(server.url, model, view)


async def show_beside(
    dashboard: Beside, wanted: Demo, simulation: Simulation, server: RunningServer, view: DemoView
) -> None:
    """The same behind the dashboard, in whose log it stands. Who leaves that is told how to ask."""
    tasks = Tasks("demo")
    try:
        shown = tasks.spawn(show(wanted, simulation, server, view), name="show")
        await dashboard(server)
        view.how_to_ask(server.url, simulation.instances[0].engine.model)
        await shown
    finally:
        await tasks.aclose()


async def backends_up(server: RunningServer, count: int, view: DemoView) -> None:
    """Wait until so many backends are healthy, telling each change. Raises DemoFailed after READY_LIMIT_S."""
    try:
        with view.waiting(count):
            async with asyncio.timeout(READY_LIMIT_S):
                while True:
                    backends = server.fleet.snapshot().backends
                    view.backends(backends)
                    if sum(backend.state == "healthy" for backend in backends) >= count:
                        return
                    await asyncio.sleep(0.05)
    except TimeoutError:
        left = [one for one in server.fleet.snapshot().backends if one.state != "healthy"]
        why = "; ".join(f"{one.id} is {one.state}: {one.error or 'no error'}" for one in left)
        raise DemoFailed(
            f"the backends were not up within {READY_LIMIT_S:.0f} s ({why or 'none was found'})"
        ) from None


async def sample(url: str, model: str, view: DemoView) -> None:
    """Ask one question and show the answer as it arrives. Raises DemoFailed when it does not arrive whole."""
    view.question(QUESTION)
    loop = asyncio.get_running_loop()
    answer = await in_thread(
        lambda: ask(
            url, model, QUESTION, on_token=lambda token: loop.call_soon_threadsafe(view.token, token)
        ),
        name="demo-sample",
    )
    if not answer.whole:
        raise DemoFailed(f"the sample request was not answered: {answer.error or 'the stream broke off'}")
    view.answered(answer.instance, answer.first_token_s or 0.0, answer.tokens, answer.total_s)
