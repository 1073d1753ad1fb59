"""Proxies that share a Redis: one reads the account for all, and none of them needs it."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.redis_server import RedisServer
from tests.helpers.scene import Scene, ask, open_scene, served_by
from tests.helpers.vastapi import Fault


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


def sharing(redis: RedisServer, **more: str) -> dict[str, str]:
    """The environment of a proxy that shares this Redis."""
    return {
        "VASTPROXY_LABEL": "none",
        "VASTPROXY_CACHE__BACKEND": "redis",
        "VASTPROXY_CACHE__URL": redis.url,
        "VASTPROXY_CACHE__TIMEOUT_S": "5",
        **more,
    }


async def test_a_second_proxy_begins_with_the_list_that_the_first_has_read(
    scene: Scene, tmp_path: Path
) -> None:
    with RedisServer(tmp_path) as redis:
        env = sharing(redis, VASTPROXY_FLEET__POLL_INTERVAL_S="600", VASTPROXY_VAST__CACHE__TTL_S="300")
        await scene.rent(101)
        proxies = [await scene.serve(healthy=None, **env) for _ in range(2)]
        assert [served_by(await ask(proxy)) for proxy in proxies] == [101, 101]
        assert len(scene.api.lists) == 1


async def test_a_proxy_that_starts_while_vast_ai_is_away_serves_what_another_has_seen(
    scene: Scene, tmp_path: Path
) -> None:
    with RedisServer(tmp_path) as redis:
        env = sharing(redis, VASTPROXY_FLEET__POLL_INTERVAL_S="0.2")
        await scene.rent(101)
        await scene.serve(healthy=None, **env)
        scene.api.faults.always(Fault.BAD_GATEWAY_HTML)
        lists = len(scene.api.lists)
        await scene.api.until(lambda: len(scene.api.lists) > lists)
        late = await scene.serve(healthy=None, **env)
        assert served_by(await ask(late)) == 101
        report = await late.health()
        assert (report["status"], report["vast_api"]["status"]) == ("degraded", "unhealthy")
        scene.api.faults.clear()
        await late.wait_health(lambda report: report["status"] == "healthy", what="vast.ai is back")


@pytest.mark.parametrize("happens", ["freeze", "kill"])
async def test_whatever_becomes_of_redis_the_proxy_goes_on_and_comes_back_to_it(
    scene: Scene, tmp_path: Path, happens: str
) -> None:
    with RedisServer(tmp_path) as redis:
        await scene.rent(101)
        env = sharing(redis, VASTPROXY_FLEET__POLL_INTERVAL_S="0.2", VASTPROXY_CACHE__TIMEOUT_S="1")
        proxy = await scene.serve(healthy=None, **env)
        getattr(redis, happens)()
        await proxy.says("cannot be used, going on with our own memory")
        lists = len(scene.api.lists)
        await scene.api.until(lambda: len(scene.api.lists) >= lists + 3)
        took_s: list[float] = []
        while len(took_s) < 5 and min(took_s, default=1.0) >= 1.0:  # a wait for Redis
            began = time.monotonic()
            assert served_by(await ask(proxy)) == 101
            took_s.append(time.monotonic() - began)
        assert min(took_s) < 1.0
        assert (await proxy.health())["status"] == "healthy"
        if happens == "freeze":
            redis.thaw()
        else:
            redis.start()
        await proxy.says("can be used again", limit_s=40)
        lists = len(scene.api.lists)
        # The third is asked for after the second was kept.
        await scene.api.until(lambda: len(scene.api.lists) >= lists + 3)
        assert any(":value:" in name for name in redis.names())
