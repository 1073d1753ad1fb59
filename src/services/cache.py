"""Chooses where answers of the vast.ai API are kept between readings."""

from vastproxy.settings.model import VastCacheSettings
from vastproxy.vastai.cache import Cache, MemoryCache, NoCache


def make_cache(settings: VastCacheSettings) -> Cache:
    """The cache that the settings ask for: in this process's memory, or none."""
    return MemoryCache(settings.max_entries) if settings.enabled else NoCache()
