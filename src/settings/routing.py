"""The settings of who serves a request."""

from typing import Annotated, Literal

from pydantic import Field

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


ModelName = Annotated[str, Field(min_length=1, max_length=1024)]
EngineName = Annotated[
    str, Field(pattern=r"^[0-9]{1,18}(:[0-9]{1,5})?$"), Expected("an instance id, or id:port")
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
    affinity_load_factor: Annotated[float, Field(ge=1, le=100)] = 1.25
    """Times its share of all requests in flight that a backend may have and still be sent prompts for their
    beginning."""
    affinity_wait_factor: Annotated[float, Field(ge=1, le=1000)] = 4.0
    """Times as busy as the least busy, for its speed, that it may be."""
    affinity_max_prefixes: Annotated[int, Field(ge=1, le=10_000_000)] = 65_536
    """Most beginnings remembered; those not seen for longest are forgotten first."""
    aliases: dict[ModelName, tuple[ModelName, ...]] = Field(default_factory=dict)
    """Names that stand for a model or several, such as {"fast": ["qwen3-8b", "llama-3.1-8b"]}. "*" stands for every
    name that no engine serves; without it such a request is answered 404."""
    default_model: ModelName | None = None
    """The model, or alias, of a request that names none. Without it the engine decides."""
    models: dict[EngineName, tuple[ModelName, ...]] = Field(default_factory=dict)
    """What engines serve that list no models or the wrong ones: instance id, or id:port, to names. One that lists none
    is taken to serve any."""
    retry_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the requests in flight that may be second attempts, so that a failing fleet is not asked twice as
    much."""
    retry_least: Annotated[int, Field(ge=0, le=10_000)] = 3
    """So many may be, however few are in flight."""
    remembered_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 1_000
    """Last requests that `vastproxy explain` knows; 2 KB each."""
    machine_scores: bool = False
    """Give machines that have failed or lost their connection, now or when they were rented before, less work: as if
    they were slower by their score (`vastproxy machines`). Needs the ledger; see docs/COST.md."""
    cheapest_knee: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of the requests that a backend takes at a time up to which cheapest_first fills it."""
