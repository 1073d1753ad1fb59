"""Does vast.ai answer us? One cheap call that checks network and key at once."""

import logging
from dataclasses import dataclass
from typing import Literal

from vastproxy.errors import VastproxyError
from vastproxy.vastai.client import VastClient

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VastHealth:
    """`latency_ms` is the time of the exchange when healthy, `error` one line when not, `code` its slug."""

    status: Literal["healthy", "unhealthy"]
    latency_ms: float | None = None
    error: str | None = None
    code: str | None = None


def check_vast_health(client: VastClient) -> VastHealth:
    """Ask vast.ai for the current user, once, with neither cache nor retries. Never raises.

    Takes at most the client's timeouts and, if others ask at the same time, the wait for a turn.
    """
    try:
        return VastHealth("healthy", latency_ms=round(client.ping() * 1000, 3))
    except VastproxyError as error:
        return VastHealth("unhealthy", error=str(error), code=getattr(error, "code", None))
    except Exception as error:
        # A health page has to answer even when we are the ones who are broken.
        logger.exception("the health check of vast.ai failed")
        return VastHealth(
            "unhealthy", error=f"the check itself failed ({type(error).__name__})", code="internal"
        )
