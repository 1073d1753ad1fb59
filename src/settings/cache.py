"""The settings of what several proxies share of vast.ai's answers."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vastproxy.settings.section import Secret, Section


class CacheSettings(Section):
    """Answers of vast.ai that several proxies share."""

    backend: Literal["memory", "redis"] = "memory"
    """Where answers are kept: in this process (memory), or in a Redis that several proxies of the same API key share,
    so that one asks and all read (redis). While Redis is away each goes on with its own memory."""
    url: Secret | None = None
    """Where Redis is: redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path. It may hold a password,
    so in a file write a reference (`env:NAME`, `file:PATH`)."""
    timeout_s: Annotated[float, Field(gt=0, le=5)] = 0.2
    """Limit for each wait for Redis. One that is slower is left alone for a while."""
    stale_s: Annotated[float, Field(ge=0, le=86_400)] = 600.0
    """How old a kept instance list may be that a proxy begins with when vast.ai cannot be asked; 0: it waits for
    vast.ai."""

    @model_validator(mode="after")
    def _redis_is_somewhere(self) -> Self:
        if self.backend == "redis" and self.url is None:
            raise ValueError("expected url (where Redis is) where backend is redis")
        return self
