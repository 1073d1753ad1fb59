"""What the tests of the vast.ai library share: recorded answers, a clock that moves when told, a client."""

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vastproxy.settings.model import RetrySettings, VastCacheSettings
from vastproxy.vastai import Instance, Monitor, VastClient, VastConfig

FIXTURES = Path(__file__).parents[2] / "fixtures" / "vastai"
URL = "https://vast.test"
KEY = "key-4f1d2c3b5a69788796a5b4c3"


def text(name: str) -> str:
    return (FIXTURES / name).read_text("utf-8")


def data(name: str) -> Any:
    return json.loads(text(name))


def instance(name: str) -> Instance:
    parsed = Instance.from_json(data(f"instance_{name}.json")["instances"])
    assert parsed is not None
    return parsed


class Clock:
    """Time that passes only in `sleep`, which notes how long it was asked to wait."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds
            self.slept.append(seconds)


def config(**over: Any) -> VastConfig:
    return VastConfig(
        **{"api_key": KEY, "url": URL, "min_interval_scale": 0.0, "key_source": "VAST_API_KEY", **over}
    )


def client(
    *,
    clock: Clock | None = None,
    monitor: Monitor | None = None,
    attempts: int = 3,
    cached: bool = False,
    sleep: Callable[[float], object] | None = None,
    **over: Any,
) -> VastClient:
    """A client whose waits cost no time, without cache and limits unless asked for."""
    clock = clock or Clock()
    over = {
        "retries": RetrySettings(attempts=attempts, base_s=2.0, max_s=60.0),
        "cache": VastCacheSettings(enabled=cached, ttl_s=5.0),
        **over,
    }
    return VastClient(
        config(**over), monitor=monitor, clock=clock, sleep=sleep or clock.sleep, rng=random.Random(7)
    )
