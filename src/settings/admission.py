"""The settings of how much is taken on, who waits, and who is left alone because it fails."""

from typing import Annotated

from pydantic import Field

from vastproxy.settings.section import Seconds, Section

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Cap = Annotated[int, Field(ge=1, le=1_000_000)]


class QueueSettings(Section):
    """Requests that wait for a place."""

    max_waiting: Count = 1_000
    """Most interactive requests that wait; more are answered 503 with Retry-After. 0: nobody waits."""
    max_waiting_per_key: Count = 250
    """Most of them from one API key; more are answered 429."""
    max_wait_s: Seconds = 60.0
    """Longest wait of an interactive request, also for a backend that is being replaced. Then 503 with Retry-After."""
    batch_max_waiting: Count = 1_000
    """Most batch requests that wait (X-VastProxy-Priority: batch)."""
    batch_max_waiting_per_key: Count = 1_000
    """Most of them from one API key."""
    batch_max_wait_s: Seconds = 600.0
    """Longest wait of a batch request."""
    batch_after: Annotated[int, Field(ge=1, le=10_000)] = 9
    """One place goes to a batch request after so many that went to interactive ones while it waited."""


class AdmissionSettings(Section):
    """Requests in flight at the same time. The rest wait (queue)."""

    max_in_flight: Cap | None = None
    """Through the whole proxy. None: as many as the backends take."""
    max_in_flight_per_key: Cap | None = None
    """For each API key."""
    max_in_flight_per_backend: Cap | None = None
    """For each engine. What engines say themselves (slots, parallel, max running) counts where it is less; None: only
    what they say."""


class PassiveHealthSettings(Section):
    """What is concluded from how requests end."""

    way_failures: Cap = 3
    """Requests in a row that did not reach an engine, after which it gets none for a while."""
    engine_failures: Cap = 5
    """Answers with 5xx, or broken ones, in a row after which it gets none for a while."""
    refusals: Cap = 3
    """Answers with 401 or 403 in a row after which it counts as wrongly configured."""
    ejection_s: Seconds = 10.0
    """How long it gets none: the n-th time n times as long."""
    max_ejection_s: Seconds = 300.0
    """The longest that it gets none, and how long all must go well for the count to begin anew."""
    slow_start_s: Annotated[float, Field(ge=0, le=86_400)] = 20.0
    """How long an engine that is new or comes back takes to get its full share. 0: at once."""
