"""The loops that integration tests can ask for, see `tests.helpers.uv`."""

import pytest

from tests.helpers.loop import LoopFactory
from tests.helpers.uv import wanted_loops


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory] | None:
    return wanted_loops(item)
