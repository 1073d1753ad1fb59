"""The part of a tunnel that may be doubted, see `Tunnel.is_doubted`."""

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Doubtable:
    """Keeps whether the tunnel owes a sign of life, and tells who wants to know."""

    def __init__(self, who: str) -> None:
        """`who` the tunnel leads to, for the log."""
        self._doubted_who = who
        self.is_doubted = False
        self.on_doubt: Callable[[bool], None] | None = None

    def doubt(self, is_doubted: bool) -> None:
        """Doubt it from now on, or take the doubt back."""
        if is_doubted is self.is_doubted:
            return
        self.is_doubted = is_doubted
        if is_doubted:
            logger.info("%s owes a sign of life; nothing new is to be sent into it", self._doubted_who)
        else:
            logger.info("%s has given a sign of life", self._doubted_who)
        if self.on_doubt is not None:
            self.on_doubt(is_doubted)
