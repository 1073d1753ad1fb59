"""Everything that one process counts for Prometheus. Made once, handed to those who count, asked by the scrape."""

from collections.abc import Callable

from vastproxy.services.metrics.happened import Happened
from vastproxy.services.metrics.process import process_registry
from vastproxy.services.metrics.requests import RequestMetrics
from vastproxy.services.metrics.vast_api import ApiMetrics
from vastproxy.settings.metrics import MetricsSettings


class Metrics:
    """The parts. Each belongs to whom it is handed; nothing here is shared between two of these objects.

    requests: `finished` is called once for each request.
    vast_api: the `monitor` of the vast.ai client.
    happened: subscribes to the fleet's events.
    traces_lost: how many requests have left no trace though they should have; None where there are no traces.
    registry: prometheus_client's, with what it tells of the process; who embeds vastproxy may register more. Its
        collectors are called in a thread, and must not block for long.
    """

    def __init__(self, settings: MetricsSettings | None = None) -> None:
        settings = settings or MetricsSettings()
        self.requests = RequestMetrics(max_models=settings.max_models)
        self.vast_api = ApiMetrics()
        self.happened = Happened(forget=self.requests.forget)
        self.traces_lost: Callable[[], int | None] = lambda: None
        self.registry = process_registry()
