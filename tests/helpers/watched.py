"""A fleet as a scrape looks at it, made of values, with everything in it that can be told."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from tests.helpers.scraped import Scraped
from vastproxy.services.backends.gpus import Gpu, Sign, Trouble
from vastproxy.services.backends.state import Event, State
from vastproxy.services.events import AccountRead, PathChanged, StateChanged
from vastproxy.services.ledger.totals import Tokens, Totals
from vastproxy.services.metrics.exposition import Form
from vastproxy.services.metrics.metrics import Metrics
from vastproxy.services.metrics.readings import AccountReading, RoutingReading
from vastproxy.services.metrics.scrape import Scrape, Watched
from vastproxy.services.snapshot import (
    BackendSnapshot,
    EngineSnapshot,
    FleetSummary,
    PathSnapshot,
    VastApiSnapshot,
    count_states,
)
from vastproxy.services.timeleft import TimeLeft
from vastproxy.vastai import PriceRise

CHANGED = "HOST KEY CHANGED: instance 7 (relay ssh5.vast.ai:11022) presented another one. Nothing was sent."

ENGINE = EngineSnapshot(
    kind="sglang",
    version="0.5.9",
    port=18000,
    service="",
    healthy=True,
    models=("m",),
    in_flight=2,
    running=3,
    waiting=1,
    capacity=64,
    cache_used=0.25,
    error=None,
)
GPU = Gpu(
    0,
    utilization_percent=57.0,
    temperature_c=61.0,
    memory_used_mib=1024.0,
    memory_total_mib=81_559.0,
    power_w=612.41,
    power_limit_w=700.0,
)
BACKEND = BackendSnapshot(
    id=7,
    state="healthy",
    since_s=12.5,
    path="direct",
    address="192.0.2.7:41022",
    paths=(
        PathSnapshot("direct", "up", "192.0.2.7:41022", 1, 4, None),
        PathSnapshot("relay", "down", None, 0, 0, CHANGED),
    ),
    engine="sglang",
    port=18000,
    models=("m",),
    engines=(ENGINE,),
    gpu_name="H100 SXM",
    num_gpus=2,
    gpus=(GPU, replace(GPU, index=1, temperature_c=92.0)),
    gpu_error=None,
    gpu_signs=tuple(sign.to_json() for sign in (Sign(Trouble.THERMAL, 1), Sign(Trouble.XID, code=79))),
    in_flight=2,
    requests=900,
    failures=3,
    hourly_cost=2.5,
    label="proxied",
    error=None,
    time_left=TimeLeft(
        ends_unix=1_790_007_200.0,
        contract_s=7200.0,
        credit_s=90_000.0,
        left_s=7200.0,
        because="contract",
        outbid_risk="high",
        price_rise=PriceRise(999, 7, 2.4, 3.1),
        drains_in_s=6600.0,
        draining=False,
    ),
)


class MadeFleet(Watched):
    """These backends, and what is said of them all."""

    def __init__(self, *backends: BackendSnapshot, api: VastApiSnapshot | None = None) -> None:
        self.backends = backends
        self.api = api or VastApiSnapshot("healthy", 120.0, None)
        self.seen = 0
        """Backends that were looked at."""

    @property
    def in_flight(self) -> int:
        return sum(backend.in_flight for backend in self.backends)

    @property
    def backend_ids(self) -> tuple[int, ...]:
        return tuple(backend.id for backend in self.backends)

    def summary(self) -> FleetSummary:
        counts = count_states(backend.state for backend in self.backends)
        return FleetSummary("healthy" if counts[State.HEALTHY] else "unhealthy", None, 1.0, self.api, counts)

    def each_backend(self) -> Iterator[BackendSnapshot]:
        for backend in self.backends:
            self.seen += 1
            yield backend


def copies(count: int, backend: BackendSnapshot = BACKEND) -> tuple[BackendSnapshot, ...]:
    """So many backends, which differ in their ids."""
    return tuple(replace(backend, id=number + 1) for number in range(count))


def full_metrics() -> Metrics:
    """Everything that can be counted has been."""
    metrics = Metrics()
    finished = metrics.requests.finished
    finished("chat", "m", 7, 200, None, 2, 0.1, 0.5, 2.5, 10, 100, 30, 41, 12, True)
    finished("chat", "m", 7, 502, "backend_error", 1, 0.0, None, 2.0, 1, 1, None, None, 0, False)
    for _ in range(2):
        with contextlib.suppress(ValueError), metrics.vast_api.track("list_instances"):
            raise ValueError("what a call to vast.ai comes to")
    metrics.happened(StateChanged(7, State.CONNECTING, State.HEALTHY, Event.SERVING, ""))
    metrics.happened(PathChanged(7, "direct", ""))
    metrics.happened(AccountRead(instances=1, backends=1))
    metrics.traces_lost = lambda: 3
    return metrics


def full_totals() -> Totals:
    """Costs of each kind."""
    return Totals(1.5, 0.25, 0.125, {"m": Tokens(prompt=30, answer=41, estimated=5)})


async def full_page(form: Form = Form.TEXT) -> Scraped:
    """A page with every metric that there is."""
    routing = RoutingReading({"interactive": 4, "batch": 0}, ejections=2, ejected=1, retry_budget=3.0)
    scrape = Scrape(
        full_metrics(),
        MadeFleet(BACKEND),
        routing=lambda: routing,
        account=lambda: AccountReading(12.5, 3000.0, full_totals()),
    )
    page = await scrape.page(form)
    return Scraped(b"".join(page).decode(), form)
