"""Whoever has a request answered, as the attempts to do so see him."""

from typing import Protocol

from vastproxy.services.errors import ServiceError
from vastproxy.services.upstream.sink import Sink


class Owner(Sink, Protocol):
    """Whose attempts they are: the sink of the answers, and these."""

    def attempt_waits(self) -> None:
        """Nobody has a place now. An attempt begins when somebody has, unless everything is given up before."""

    def attempt_begun(self) -> None:
        """A backend is being asked, once more perhaps."""

    def attempt_sent(self) -> None:
        """The request, or its beginning, was written."""

    def given_up(self, error: ServiceError) -> None:
        """Nothing more will be tried. Nothing is leased."""
