"""The metrics of what happens, and of who watches, beside those of `families.py`. Pure."""

from typing import Final

from vastproxy.services.metrics.exposition import Family

EVENTS: Final = Family(
    "vastproxy_events_total",
    "counter",
    "What has happened, by kind (docs/EVENTS.md). token_refused: an engine does not accept our token, and somebody has "
    "to change something.",
    ("kind",),
)
TRACES_LOST: Final = Family(
    "vastproxy_traces_lost_total",
    "counter",
    "Requests whose traces could not be sent, or were too many to be kept until then.",
)

WATCH_FAMILIES: Final = (EVENTS, TRACES_LOST)
