"""The dashboard in a browser in front of the real proxy: its own endpoints, keys and gate."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.helpers.browser import running_browser, watched
from tests.helpers.engines import FakeEngine
from tests.helpers.http_fetch import fetch
from tests.helpers.proxying import Proxying
from vastproxy.settings.model import ServerSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "an-admin-key-of-the-settings"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running
