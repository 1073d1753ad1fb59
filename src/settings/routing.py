"""The settings of who serves a request."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vastproxy.settings.expected import Expected
from vastproxy.settings.section import Seconds, Section

HeaderName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"),
    Expected("the name of an HTTP header, such as X-Session-Id"),
]
CookieName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"), Expected("the name of a cookie, such as session")
]


class RoutingSettings(Section):
    """Who serves a request."""

    policy: Literal["prefix_affinity", "least_loaded", "round_robin", "cheapest_first"] = "prefix_affinity"
    """How a backend is chosen: the one that has served the beginning of the prompt before, while it is not much busier
    than others (prefix_affinity); the less busy of two for its speed (least_loaded); everybody in turn (round_robin);
    the one whose tokens cost least, until it is busy (cheapest_first)."""
    session_header: HeaderName | None = None
    """Request header whose value names a session; its requests stay on one backend. It is never stored, only a hash of
    it."""
    session_cookie: CookieName | None = None
    """Cookie that does the same; the header comes first."""
    session_idle_s: Seconds = 3600.0
    """How long a session without a request is remembered."""
    max_sessions: Annotated[int, Field(ge=1, le=10_000_000)] = 65_536
    """Most sessions remembered; those idle for longest are forgotten first."""
    affinity_block_bytes: Annotated[int, Field(ge=64, le=1 << 20)] = 256
    """Bytes after which the beginnings of two prompts can be told apart; coarser further on."""
    affinity_max_bytes: Annotated[int, Field(ge=64, le=1 << 24)] = 65_536
    """Bytes of a prompt that are looked at, from its beginning. Costs about 1 µs of CPU for each KB."""
    affinity_load_factor: Annotated[float, Field(ge=1, le=100)] = 1.25
    """Times its share of all requests in flight that a backend may have and still be sent prompts for their
    beginning."""
    affinity_wait_factor: Annotated[float, Field(ge=1, le=1000)] = 4.0
    """Times as busy as the least busy, for its speed, that it may be."""
    affinity_max_prefixes: Annotated[int, Field(ge=1, le=10_000_000)] = 65_536
    """Most beginnings remembered; those not seen for longest are forgotten first."""
    cheapest_knee: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of the requests that a backend takes at a time up to which cheapest_first fills it."""

    @model_validator(mode="after")
    def _a_block_is_looked_at(self) -> Self:
        if self.affinity_max_bytes < self.affinity_block_bytes:
            raise ValueError(
                f"expected affinity_max_bytes ({self.affinity_max_bytes}) "
                f"to be at least affinity_block_bytes ({self.affinity_block_bytes})"
            )
        return self
