"""Chooses where answers of the vast.ai API are kept between readings."""

import os
from collections.abc import Mapping

from vastproxy.settings import SettingsError, resolve_secret
from vastproxy.settings.cache import CacheSettings
from vastproxy.settings.model import VastCacheSettings
from vastproxy.vastai.cache import Cache, MemoryCache, NoCache
from vastproxy.vastai.config import VastConfig


def make_cache(
    settings: VastCacheSettings,
    shared: CacheSettings | None = None,
    *,
    vast: VastConfig | None = None,
    environ: Mapping[str, str] | None = None,
) -> Cache:
    """The cache that the settings ask for: none, in this process's memory, or shared by way of a Redis.

    `vast` says whose answers are shared; `environ` (the process's, unless given) is where a reference to the Redis's
    address leads. Nothing is connected yet. Raises SettingsError when there is no address that can be used.
    """
    shared = CacheSettings() if shared is None else shared
    if not settings.enabled:
        return NoCache()
    memory = MemoryCache(settings.max_entries, stale_s=shared.stale_s)
    if shared.backend == "memory" or vast is None:
        return memory
    url = resolve_secret(shared.url, environ=os.environ if environ is None else environ, name="cache.url")
    if url is None:
        raise SettingsError("cache.url: expected the address of Redis, as cache.backend is redis")
    # Here, as loading the library takes a tenth of a second and few need it.
    from vastproxy.services.cache_redis import RedisStore
    from vastproxy.services.cache_shared import SharedCache
    from vastproxy.services.sealing import Seal

    store = RedisStore(url.get_secret_value(), Seal(vast.api_key, vast.url), timeout_s=shared.timeout_s)
    return SharedCache(store, memory, stale_s=shared.stale_s)
