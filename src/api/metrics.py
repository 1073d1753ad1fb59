"""`/metrics`: everything that Prometheus may know, in the format that it asks for."""

from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vastproxy.services.metrics.exposition import choose
from vastproxy.services.metrics.scrape import Scrape


class MetricsEndpoint:
    """What a scrape is answered. Who may ask is decided before."""

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape

    async def metrics(self, request: Request) -> Response:
        """The page, as OpenMetrics for those who want it, else as text."""
        form = choose(request.headers.get("accept", ""))
        page = await self._scrape.page(form)
        # Complete before the head is sent, so that what fails is a 500 and never half a page.
        headers = {"content-length": str(sum(map(len, page))), "content-type": form.value, "vary": "accept"}
        return StreamingResponse(_pieces(page), headers=headers)


async def _pieces(page: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in page:
        yield piece
