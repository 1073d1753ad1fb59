"""What tests of exchanges share."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.helpers.exchanging import Scene


@pytest.fixture
async def make_scene() -> AsyncIterator[Callable[..., Scene]]:
    """Makes scenes, and ends them."""
    scenes: list[Scene] = []

    def make(**options: Any) -> Scene:
        scenes.append(Scene(**options))
        return scenes[-1]

    yield make
    for scene in scenes:
        await scene.aclose()


@pytest.fixture
async def scene(make_scene: Callable[..., Scene]) -> Scene:
    """Two vLLM engines, everything by default."""
    return make_scene()
