"""What is written to the ledger at once: plain values, made by a `Book`, stored by a `Store`. Pure."""

from dataclasses import dataclass, field
from typing import Final

#: Upper ends in seconds of the counts of times to the first byte. They are stored: a change needs a migration.
TTFT_BOUNDS: Final = (
    *(0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0),
)


@dataclass(slots=True)
class Rent:
    """Seconds of one hour in which an instance was seen at one price: all of them, and those in which it had work, as
    bits (`seconds.py`)."""

    hour: int
    instance_id: int
    machine_id: int | None
    identity: str
    gpu: str
    is_running: bool
    dollars_per_hour: float
    seen: int = 0
    busy: int = 0


@dataclass(slots=True)
class Served:
    """What one instance did in one hour for one model and key."""

    hour: int
    instance_id: int
    model: str
    key: str
    requests: int = 0
    errors: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    estimated_tokens: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    bandwidth_dollars: float = 0.0


@dataclass(slots=True)
class Experience:
    """What was had with a machine. `errors`: attempts that failed, and answers that say so; `drops`: ways to it that
    were lost; `ttft`: streams by time to the first byte (`TTFT_BOUNDS`, and longer ones); `tokens` came in `seconds` of
    streams."""

    machine_id: int
    requests: int = 0
    errors: int = 0
    drops: int = 0
    tokens: int = 0
    seconds: float = 0.0
    ttft: list[int] = field(default_factory=lambda: [0] * (len(TTFT_BOUNDS) + 1))


@dataclass(frozen=True, slots=True)
class Batch:
    """`number` counts up: a store takes each number of a writer once. `until`: unix time at which it was closed."""

    number: int
    until: float
    rent: tuple[Rent, ...]
    served: tuple[Served, ...]
    machines: tuple[Experience, ...]
