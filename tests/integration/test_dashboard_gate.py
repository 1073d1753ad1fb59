"""Who gets as far as the dashboard's files. No browser is needed to be sent away."""

import asyncio

from tests.helpers.engines import FakeEngine
from tests.helpers.http_fetch import fetch
from tests.helpers.proxying import Proxying
from vastproxy.settings.model import ServerSettings


async def test_a_name_of_somebody_else_does_not_even_get_the_files() -> None:
    """A page that has its own name lead here (DNS rebinding) is refused while nobody needs a key."""
    server = ServerSettings(allowed_hosts=())
    async with Proxying([FakeEngine("vllm")], server=server) as proxy:
        for path in ("/vastproxy/", "/vastproxy/main.js", "/vastproxy/v1/live"):
            refused = await fetch(proxy.port, path, headers={"host": "evil.example"}, timeout_s=5)
            assert (refused.status, b"host_not_allowed" in refused.body) == (403, True)
        foreign = {"origin": "https://evil.example", "content-type": "application/json"}
        drain = "/vastproxy/v1/backends/1/drain"
        refused = await fetch(proxy.port, drain, method="POST", headers=foreign, body=b"{}", timeout_s=5)
        assert refused.status == 403
        answer, again = await asyncio.gather(
            *(
                fetch(proxy.port, "/vastproxy/", headers=headers, timeout_s=5)
                for headers in ({}, {"host": "localhost"})
            )
        )
        assert answer.status == again.status == 200
