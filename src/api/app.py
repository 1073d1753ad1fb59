"""The composition root: settings in, an ASGI application out, with everything between them built and wired.

`create_app(settings)` is the whole product as an ASGI application whose lifespan starts and ends the fleet. Who has
a fleet already (the command line does, to end it in its own order) hands it over and keeps its life to himself.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from vastproxy.api.admin import AdminEndpoints
from vastproxy.api.auth import KeyRing, RequireKey
from vastproxy.api.health import HealthEndpoints
from vastproxy.api.models import ModelsEndpoint
from vastproxy.api.proxy import ProxyApp
from vastproxy.jobs.probe import ProbeJob
from vastproxy.jobs.sync import SyncJob
from vastproxy.services.cache import make_cache
from vastproxy.services.events import log_event
from vastproxy.services.fleet import Fleet
from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.factory import make_engine
from vastproxy.settings import Settings, effective_environ, resolve_secret
from vastproxy.vastai import VastClient, VastConfig


def build_fleet(
    settings: Settings, *, client: VastClient | None = None, environ: Mapping[str, str] | None = None
) -> Fleet:
    """A fleet for these settings, not started. Reads the SSH key and, without `client`, the API key.

    `environ` is where references to secrets lead; the process's environment with `.env` below it unless given.
    Raises SettingsError when a key cannot be found or used.
    """
    environ = effective_environ() if environ is None else environ
    if client is None:
        config = VastConfig.from_settings(settings.vast, environ)
        client = VastClient(config, cache=make_cache(settings.vast.cache))
    token = resolve_secret(settings.engines.api_key, environ=environ, name="engines.api_key")
    return Fleet(
        settings,
        client,
        make_engine(settings.tunnels),
        engine_token=token.get_secret_value() if token is not None else None,
    )


def inbound_keys(settings: Settings, *, environ: Mapping[str, str] | None = None) -> KeyRing:
    """The keys that clients may use. Raises SettingsError when a reference to one leads nowhere."""
    environ = effective_environ() if environ is None else environ
    found = (resolve_secret(key, environ=environ, name="server.api_keys") for key in settings.server.api_keys)
    return KeyRing(key.get_secret_value() for key in found if key is not None)


@asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[Fleet]:
    """The fleet with its jobs, for as long as the block lasts. At the end labels are cleared and tunnels closed."""
    unsubscribe = fleet.events.subscribe(log_event)
    fleet.start()
    tasks = Tasks("jobs")
    probe = ProbeJob(fleet)
    probe.start()
    tasks.spawn(SyncJob(fleet).run(), name="sync")
    try:
        yield fleet
    finally:
        await tasks.aclose()
        await probe.aclose()
        await fleet.aclose()
        unsubscribe()


def create_app(settings: Settings, *, fleet: Fleet | None = None) -> Starlette:
    """The application. With `fleet` its life is the caller's (see `running`), otherwise the lifespan's."""
    mine = fleet is None
    fleet = fleet or build_fleet(settings)
    proxy = ProxyApp(fleet)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if mine:
            async with running(fleet):
                yield
        else:
            yield
        await proxy.aclose()

    health, models, admin = HealthEndpoints(fleet), ModelsEndpoint(fleet), AdminEndpoints(fleet)
    keys = inbound_keys(settings)
    return Starlette(
        routes=[
            Route("/healthz", health.healthz),
            Route("/livez", health.livez),
            Route("/readyz", health.readyz),
            Route("/v1/models", models.list),
            Route("/vastproxy/v1/backends", admin.backends),
            Mount("/vastproxy", routes=[]),
            Mount("/", app=proxy),
        ],
        middleware=[Middleware(RequireKey, keys=keys)] if keys else [],
        lifespan=lifespan,
    )
