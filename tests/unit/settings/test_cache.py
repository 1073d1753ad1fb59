"""The settings of what several proxies share."""

import pytest
from pydantic import ValidationError

from vastproxy.settings.cache import CacheSettings


def test_redis_needs_an_address() -> None:
    with pytest.raises(ValidationError, match="expected url"):
        CacheSettings(backend="redis")
    settings = CacheSettings.model_validate({"backend": "redis", "url": "redis://u:s3cret@h"})
    assert "s3cret" not in repr(settings)


def test_an_address_may_stand_there_before_it_is_used() -> None:
    assert CacheSettings.model_validate({"url": "redis://h"}).backend == "memory"
