"""What others tell of themselves at a scrape, as plain values. Whoever has nothing to tell leaves the default."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vastproxy.services.ledger.totals import Totals


@dataclass(frozen=True, slots=True)
class RoutingReading:
    """Waiting, and who gets no requests. `waiting`: by class of priority; `ejections`: since the start; `ejected`:
    engines now; `retry_budget`: retries left, None where there is no limit."""

    waiting: Mapping[str, int] = field(default_factory=dict)
    ejections: int = 0
    ejected: int = 0
    retry_budget: float | None = None


@dataclass(frozen=True, slots=True)
class AccountReading:
    """The account on vast.ai; None where it is not known. `lasts_s`: how long its credit lasts, in seconds."""

    credit_dollars: float | None = None
    lasts_s: float | None = None
    totals: Totals | None = None
    """What its instances have cost, and done for it."""
