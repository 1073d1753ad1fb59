"""How we ask something inside an instance one small question over HTTP: the seam, and reading the answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    """A whole answer. Header names are lower case; the body is bounded by whoever fetched it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    body: bytes = b""

    @property
    def is_refusal(self) -> bool:
        """It wants a token that we did not send, or does not accept the one we sent."""
        return self.status in (401, 403)

    @property
    def is_placeholder(self) -> bool:
        """Caddy's page for a service that is down: 502, or 200 when the request came through Cloudflare
        (vast.ai base image, caddy_config_manager.py, 2026-08)."""
        return "x-portal-placeholder" in self.headers

    @property
    def is_page(self) -> bool:
        """A page for people, whatever its status says. No engine answers a probe with one."""
        kind = self.headers.get("content-type", "").lower()
        return (
            self.is_placeholder
            or "html" in kind
            or self.body.lstrip()[:9].lower() in (b"<!doctype", b"<html>")
        )

    def json(self) -> Any:
        """The body as JSON whatever the content type says; None when it is not JSON (or is `null`)."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is anything else."""
        value = self.json()
        return value if isinstance(value, dict) else {}


class Fetch(Protocol):
    """Asks `127.0.0.1:port` inside one instance. Redirects are not followed."""

    async def __call__(
        self,
        port: int,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes = b"",
        timeout_s: float,
    ) -> ProbeResponse:
        """One request, one answer, at most `timeout_s` seconds for both.

        Raises ChannelRefused when the port is closed, BackendTimeout, BackendProtocolError or
        ResponseInterrupted when what listens there does not answer in HTTP, TunnelLost or TunnelRefused
        when the instance itself cannot be reached.
        """
        ...


def request_headers(token: str | None) -> dict[str, str]:
    """What every probe sends. Caddy compresses unless told not to (vast.ai base image, 2026-08)."""
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    return headers
