"""The composition root: settings in, an ASGI application out, with everything between them built and wired.

`create_app(settings)` is the whole product as an ASGI application whose lifespan starts and ends the fleet. Who has
a fleet already (the command line does, to end it in its own order) hands it over and keeps its life to himself.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vastproxy.api.access import AccessLog
from vastproxy.api.actions import ActionEndpoints
from vastproxy.api.admin import AdminEndpoints
from vastproxy.api.auth import KeyRing
from vastproxy.api.browsers import Browsers
from vastproxy.api.cost import CostEndpoints
from vastproxy.api.errors import ApiError, own_failure
from vastproxy.api.feed import FeedEndpoints
from vastproxy.api.fleet_page import FleetPages
from vastproxy.api.front import Entrance, Front, is_admitted
from vastproxy.api.gate import Gate
from vastproxy.api.health import HealthEndpoints
from vastproxy.api.live import LiveEndpoint
from vastproxy.api.metrics import MetricsEndpoint
from vastproxy.api.models import ModelsEndpoint
from vastproxy.api.proxy import Proxy
from vastproxy.api.query import BadQuery, refuse_query
from vastproxy.api.webhooks import WebhookEndpoint, make_inbox
from vastproxy.jobs.account import AccountJob
from vastproxy.jobs.ledger import LedgerJob
from vastproxy.jobs.live import LiveJob
from vastproxy.jobs.probe import ProbeJob
from vastproxy.jobs.sync import SyncJob
from vastproxy.services.access.keyfile import keys_path
from vastproxy.services.cache import make_cache
from vastproxy.services.events import log_event
from vastproxy.services.fleet import Fleet
from vastproxy.services.ledger.ledger import Ledger
from vastproxy.services.ledger.place import ledger_path
from vastproxy.services.metrics.metrics import Metrics
from vastproxy.services.metrics.readings import RoutingReading
from vastproxy.services.metrics.scrape import Scrape
from vastproxy.services.overview import Overview
from vastproxy.services.routing.ticket import Priority
from vastproxy.services.tasks import Tasks
from vastproxy.services.tracing.make import make_tracing
from vastproxy.services.tunnels.base import TunnelEngine
from vastproxy.services.tunnels.factory import make_engine
from vastproxy.settings import Settings, effective_environ, load_settings, resolve_secret
from vastproxy.vastai import VastClient, VastConfig, get_client


def build_fleet(
    settings: Settings,
    *,
    client: VastClient | None = None,
    engine: TunnelEngine | None = None,
    environ: Mapping[str, str] | None = None,
    metrics: Metrics | None = None,
) -> Fleet:
    """A fleet for these settings, not started. Without `engine` it reads the SSH key, without `client` the API key.

    `environ` is where references to secrets lead; the process's environment with `.env` below it unless given.
    `metrics` hear of each call to vast.ai. Raises SettingsError when a key cannot be found or used.
    """
    environ = effective_environ() if environ is None else environ
    if client is None:
        # An answer older than half a poll would make a poll see what the one before saw.
        ttl_s = min(settings.vast.cache.ttl_s, settings.fleet.poll_interval_s / 2)
        cache = settings.vast.cache.model_copy(update={"ttl_s": ttl_s})
        section = settings.vast.model_copy(update={"cache": cache})
        monitor = metrics.vast_api if metrics is not None else None
        vast = VastConfig.from_settings(section, environ)
        kept = make_cache(cache, settings.cache, vast=vast, environ=environ)
        client = get_client(vast, cache=kept, monitor=monitor)
    token = resolve_secret(settings.engines.api_key, environ=environ, name="engines.api_key")
    fleet = Fleet(
        settings,
        client,
        make_engine(settings.tunnels, environ=environ) if engine is None else engine,
        engine_token=token.get_secret_value() if token is not None else None,
    )
    fleet.account.ledger = Ledger(ledger_path(settings, environ), settings.ledger)
    return fleet


def inbound_keys(settings: Settings, *, environ: Mapping[str, str] | None = None) -> KeyRing:
    """The keys that clients may use: those of the settings, and of the file that `vastproxy keys` writes.

    Raises SettingsError when a reference to one leads nowhere, or the file cannot be used.
    """
    environ = effective_environ() if environ is None else environ
    found = (resolve_secret(key, environ=environ, name="server.api_keys") for key in settings.server.api_keys)
    keys = KeyRing(key.get_secret_value() for key in found if key is not None)
    keys.follow(keys_path(settings, environ))
    return keys


@asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[Fleet]:
    """The fleet with its jobs, for as long as the block lasts. At the end labels are cleared and tunnels closed."""
    unsubscribe = fleet.events.subscribe(log_event)
    fleet.start()
    tasks = Tasks("jobs")
    probe = ProbeJob(fleet)
    probe.start()
    ledger = LedgerJob(fleet)
    ledger.start()
    tasks.spawn(SyncJob(fleet).run(), name="sync")
    tasks.spawn(AccountJob(fleet.account).run(), name="account")
    tasks.spawn(LiveJob(fleet.live).run(), name="live")
    try:
        yield fleet
    finally:
        await tasks.aclose()
        await probe.aclose()
        await ledger.aclose()
        await fleet.aclose()
        unsubscribe()


def create_app(
    settings: Settings | None = None,
    *,
    fleet: Fleet | None = None,
    access_log: AccessLog | None = None,
    metrics: Metrics | None = None,
) -> Starlette:
    """The application, also for `uvicorn --factory vastproxy.api.app:create_app`.

    `settings` are read as the command line reads them unless given. With `fleet` its life is the caller's (see
    `running`), otherwise the lifespan's. Lines about requests go to `access_log`, to the logger `vastproxy.access`
    unless given; counts go to `metrics`, those that `build_fleet` was given. Its `state.entrance` is where our own
    HTTP protocol brings requests, its `state.live` has the streams that do not end by themselves. Raises SettingsError.
    """
    settings = load_settings() if settings is None else settings
    mine = fleet is None
    metrics = Metrics(settings.metrics) if metrics is None else metrics
    fleet = build_fleet(settings, metrics=metrics) if fleet is None else fleet
    fleet.events.subscribe(metrics.happened)
    fleet.live.follow(metrics.requests)
    keys = inbound_keys(settings)
    access_log = access_log or AccessLog(enabled=settings.logging.access)
    tracing = make_tracing(settings.tracing, clock=fleet.clock)
    if tracing is not None:
        metrics.traces_lost = lambda: tracing.lost
    ledger = fleet.account.ledger
    proxy = Proxy(fleet, access_log=access_log, metrics=metrics.requests, tracing=tracing, ledger=ledger)
    webhooks = WebhookEndpoint(fleet, make_inbox(settings.webhooks, environ=effective_environ()))
    tasks = Tasks("pages")
    browsers, gate = Browsers(settings.server), Gate(settings.server)
    health = HealthEndpoints(fleet)
    overview = Overview(fleet)
    pages = FleetPages(overview, lambda: fleet.backend_ids)
    live = LiveEndpoint(fleet, pages, tasks, admits=lambda request: is_admitted(keys, request.scope))
    feed = FeedEndpoints(fleet, overview, pages)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with running(fleet) if mine else nullcontext():
            yield
        live.close()
        await proxy.aclose()
        await tasks.aclose()

    app = Starlette(
        routes=[*_routes(fleet, metrics, webhooks, health), *_feed_routes(feed, live)],
        middleware=[Middleware(Front, proxy=proxy, keys=keys, tasks=tasks, browsers=browsers, gate=gate)],
        exception_handlers={HTTPException: _refuse, BadQuery: refuse_query, Exception: _apologise},
        lifespan=lifespan,
    )
    app.state.entrance = Entrance(
        app, proxy=proxy, keys=keys, tasks=tasks, browsers=browsers, gate=gate, health=health
    )
    app.state.live = live
    return app


def _feed_routes(feed: FeedEndpoints, live: LiveEndpoint) -> list[Route]:
    return [
        Route("/vastproxy/v1/fleet", feed.fleet),
        Route("/vastproxy/v1/backends/{id:int}", feed.backend),
        Route("/vastproxy/v1/events", feed.events),
        Route("/vastproxy/v1/history", feed.history),
        Route("/vastproxy/v1/live", live.live),
    ]


def _routes(
    fleet: Fleet, metrics: Metrics, webhooks: WebhookEndpoint, health: HealthEndpoints
) -> list[Route]:
    models, admin, actions = ModelsEndpoint(fleet), AdminEndpoints(fleet), ActionEndpoints(fleet)
    scrape = Scrape(metrics, fleet, routing=lambda: _routing(fleet), account=fleet.account.reading)
    told = MetricsEndpoint(scrape)
    return [
        *([Route("/metrics", told.metrics)] if fleet.settings.metrics.enabled else []),
        *(Route(path, health.endpoint(path)) for path in health.pages),
        Route("/v1/models", models.list),
        Route("/vastproxy/v1/backends", admin.backends),
        Route("/vastproxy/v1/backends/{id:int}/drain", admin.drain, methods=["POST"]),
        Route("/vastproxy/v1/backends/{id:int}/undrain", admin.undrain, methods=["POST"]),
        Route("/vastproxy/v1/backends/{id:int}/destroy", actions.destroy, methods=["POST"]),
        Route("/vastproxy/v1/backends/{id:int}/trust", actions.changed_keys, methods=["GET"]),
        Route("/vastproxy/v1/backends/{id:int}/trust", actions.trust, methods=["POST"]),
        Route("/vastproxy/v1/abort", actions.abort, methods=["POST"]),
        Route("/vastproxy/v1/requests", admin.requests),
        Route("/vastproxy/v1/requests/{id:path}/cancel", actions.cancel, methods=["POST"]),
        Route("/vastproxy/v1/requests/{id:path}", admin.request),
        Route("/vastproxy/v1/process", admin.process),
        *CostEndpoints(fleet).routes(),
        Route("/webhooks/vastai", webhooks.receive, methods=["POST"]),
    ]


def _routing(fleet: Fleet) -> RoutingReading:
    admission, budget = fleet.dispatcher.admission, fleet.dispatcher.budget
    passive = fleet.dispatcher.targets.passive
    return RoutingReading(
        waiting={one.name.lower(): admission.waiting_of(one) for one in Priority},
        ejections=passive.ejections,
        ejected=len(passive.out),
        retry_budget=budget.allowed(admission.in_flight) - budget.taken,
    )


async def _refuse(request: Request, error: Exception) -> Response:
    """A path or method that is ours and does not exist."""
    assert isinstance(error, HTTPException)
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    answer = ApiError(error.status_code, f"{error.detail}.", "invalid_request_error", code)
    return Response(answer.body(), error.status_code, headers=error.headers, media_type="application/json")


async def _apologise(request: Request, error: Exception) -> Response:
    """A bug. The log has the traceback; the client has no use for it."""
    return Response(own_failure().body(), 500, media_type="application/json")
