"""Which cache the settings ask for."""

import re

import pytest

from vastproxy.services.cache import make_cache
from vastproxy.services.cache_shared import SharedCache
from vastproxy.settings import SettingsError
from vastproxy.settings.cache import CacheSettings
from vastproxy.settings.model import VastCacheSettings
from vastproxy.vastai import MemoryCache, NoCache, VastConfig

VAST = VastConfig(api_key="k")


def redis_at(url: str) -> CacheSettings:
    return CacheSettings.model_validate({"backend": "redis", "url": url})


def test_by_default_it_is_the_memory_of_this_process() -> None:
    assert isinstance(make_cache(VastCacheSettings()), MemoryCache)
    assert isinstance(make_cache(VastCacheSettings(), CacheSettings(), vast=VAST), MemoryCache)


def test_a_cache_that_is_switched_off_is_none_wherever_it_would_be() -> None:
    off = VastCacheSettings(enabled=False)
    assert isinstance(make_cache(off), NoCache)
    assert isinstance(make_cache(off, redis_at("redis://127.0.0.1:1"), vast=VAST), NoCache)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:s3cret@127.0.0.1:1/3",
        "rediss://cache:6379",
        "unix:///run/r.sock",
        "rediss://cache:6379/0?ssl_cert_reqs=none",
        "redis://cache:6379?db=2&password=s3cret",
    ],
)
def test_redis_is_made_without_connecting_and_does_not_show_its_password(url: str) -> None:
    cache = make_cache(VastCacheSettings(), redis_at(url), vast=VAST)
    assert isinstance(cache, SharedCache)
    assert repr(cache) == f"<SharedCache {url.replace('u:s3cret@', '').partition('?')[0]}>"
    cache.close()


def test_a_reference_to_the_address_is_followed() -> None:
    settings = redis_at("env:CACHE")
    environ = {"CACHE": "redis://127.0.0.1:1"}
    assert isinstance(make_cache(VastCacheSettings(), settings, vast=VAST, environ=environ), SharedCache)
    with pytest.raises(SettingsError, match=r"cache\.url: the environment variable CACHE"):
        make_cache(VastCacheSettings(), settings, vast=VAST, environ={})


@pytest.mark.parametrize(
    "url",
    [
        "http://s3cret@host",
        "s3cret",
        "redis://h:s3cret",
        "redis://h:70000000/s3cret",
        "redis://h/0?s3cret=1",
        "redis://h/0?decode_responses=true&x=s3cret",
        "redis://h/0?socket_timeout=600&x=s3cret",
        "redis://h/0?ssl_ca_certs=s3cret",
        "redis://h/0?db=s3cret",
    ],
)
def test_what_is_no_address_of_a_redis_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError, match=re.escape("cache.url: expected redis://")) as caught:
        make_cache(VastCacheSettings(), redis_at(url), vast=VAST)
    assert "s3cret" not in str(caught.value)


def test_nobody_at_the_address_costs_nothing() -> None:
    cache = make_cache(VastCacheSettings(), redis_at("redis://127.0.0.1:1"), vast=VAST)
    assert cache.get_or_fetch("a", lambda: 1, 5.0) == 1
    assert cache.get_or_fetch("a", lambda: 2, 5.0) == 1
    cache.close()
