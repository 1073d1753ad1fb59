"""The loops that integration tests can ask for, see `tests.helpers.uv`, and what tests of SSH begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.loop import LoopFactory
from tests.helpers.ssh_engines import ENGINES
from tests.helpers.sshd import Sshd
from tests.helpers.uv import wanted_loops


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory] | None:
    return wanted_loops(item)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """OpenSSH's sshd, running."""
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of the SSH engine under test; a test that takes it runs over each."""
    return str(request.param)
