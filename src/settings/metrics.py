"""The settings of what Prometheus is told."""

from typing import Annotated

from pydantic import Field

from vastproxy.settings.section import Section


class MetricsSettings(Section):
    """`/metrics`, for Prometheus."""

    enabled: bool = True
    """Answer `/metrics`. It asks for a key where there are keys."""
    max_models: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Names of models that are told apart; those that come later are counted as `other`. Each is about a hundred lines
    of a scrape."""
