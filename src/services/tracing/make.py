"""Tracing as the settings want it. OpenTelemetry is imported only where it is on."""

import time
from collections.abc import Callable

from vastproxy.services.tracing.tracing import Outlet, Tracing
from vastproxy.settings.errors import SettingsError
from vastproxy.settings.tracing import TracingSettings


def otlp_outlet(endpoint: str | None, clock: Callable[[], float]) -> Outlet:
    """The way to an OTLP collector. Raises ImportError without the extra."""
    from vastproxy.services.tracing.otlp import OtlpOutlet

    return OtlpOutlet(endpoint, clock=clock)


def make_tracing(
    settings: TracingSettings,
    *,
    clock: Callable[[], float] = time.monotonic,
    outlet: Callable[[str | None, Callable[[], float]], Outlet] = otlp_outlet,
) -> Tracing | None:
    """None where it is off. `clock`: the one that claims are written with. Raises SettingsError when the packages for
    it are not installed."""
    if not settings.enabled:
        return None
    try:
        way = outlet(settings.endpoint, clock)
    except ImportError:
        raise SettingsError(
            "tracing.enabled: OpenTelemetry is not installed; pip install 'vastproxy[otel]', or switch tracing off"
        ) from None
    return Tracing(
        way, sample_ratio=settings.sample_ratio, propagate=settings.propagate, queue=settings.queue
    )
