"""What a request is told that nobody can serve."""

from collections.abc import Callable

from vastproxy.services.dispatch.need import Need
from vastproxy.services.errors import NoBackendAvailable, OverLimit, ServiceError
from vastproxy.services.routing.models import clipped
from vastproxy.services.routing.ticket import Refusal


class Nobody:
    """Why there is nobody, and whether somebody may come. `why`: in words for people."""

    def __init__(self, is_expected: Callable[[], bool], why: Callable[[], str]) -> None:
        self._is_expected = is_expected
        self._why = why
        self.is_final = False
        """Does nobody serve any more, whoever comes?"""

    def check(self, need: Need) -> None:
        """Raises NoBackendAvailable where waiting makes no sense."""
        if self.is_final or not (need.members or self._is_expected()):
            raise self.now()

    def now(self) -> NoBackendAvailable:
        """Nobody can serve, and waiting makes no sense."""
        return NoBackendAvailable(f"no backend can serve now: {self._why()}")

    def left(self, tried: int) -> NoBackendAvailable:
        """All that could were tried."""
        return NoBackendAvailable(f"{tried} engines were tried and none could be reached; nobody is left")

    def error(self, refusal: Refusal, need: Need) -> ServiceError:
        """It may not wait, or has waited long enough."""
        if refusal.status == 429:
            return OverLimit(refusal.message, retry_after_s=refusal.retry_after_s)
        text = refusal.message if need.members else f"{self._absent(need)} ({refusal.message})"
        return NoBackendAvailable(text, retry_after_s=refusal.retry_after_s)

    def _absent(self, need: Need) -> str:
        """Why nobody has it."""
        if not need.model:
            return str(self.now())
        return f"no backend that serves the model '{clipped(need.model)}' can be asked now: {self._why()}"
