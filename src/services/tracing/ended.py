"""What a span tells of a request that is over."""

from typing import NamedTuple

from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.tracing.context import Trace


class Ended(NamedTuple):
    """A request that is over, and what its claim does not say."""

    claim: Claim
    trace: Trace
    path: bytes
    """Without its query."""
    key: str | None
    """The name of the key that was sent; None where nobody is told apart."""
    model: str | None
    """As the fleet calls it, or cut."""
    tokens_in: int | None
    tokens_out: int | None
    streamed: bool
    client: str
