"""The account behind the fleet: what credit it has, what it costs, for how long that lasts, and which price rises its
hosts ask for."""

import logging
import time
from collections.abc import Callable, Iterable

from vastproxy.services.events import CreditLow, FleetEvent
from vastproxy.services.funds import AccountSnapshot, snapshot_of
from vastproxy.services.ledger.ledger import Ledger
from vastproxy.services.metrics.readings import AccountReading
from vastproxy.services.threads import in_thread
from vastproxy.vastai import Instance, User, VastClient, VastError, VastUnauthorized
from vastproxy.vastai.prices import PriceRise

__all__ = ["KNOWN_FOR_S", "REFUSED_FOR_S", "Account", "AccountSnapshot", "snapshot_of"]

logger = logging.getLogger(__name__)

#: A credit that was read so long ago is told no more: at some dollars an hour it has become another one.
KNOWN_FOR_S = 3600.0
#: A key without the right to read the account is tried again after so long: rights can be added to it.
REFUSED_FOR_S = 3600.0
#: Whoever reads the log is told when the credit lasts for less than each of these, once until it lasts longer again.
WARN_AT_S = (24 * 3600.0, 3 * 3600.0, 1800.0)


class Account:
    """See the module's docstring. Belongs to one event loop; `clock` is monotonic."""

    def __init__(
        self,
        client: VastClient,
        *,
        clock: Callable[[], float] = time.monotonic,
        publish: Callable[[FleetEvent], object] = lambda event: None,
    ) -> None:
        self._client = client
        self._publish = publish
        self._clock = clock
        self._credit: float | None = None
        self._read_at = float("-inf")
        self._refused_at = float("-inf")
        self._dollars_per_hour: float | None = None
        self._rises: tuple[PriceRise, ...] = ()
        self._rises_at = self._rises_refused_at = float("-inf")
        self._warned = 0
        """How many of the warnings about the credit were given."""
        self.instances: tuple[Instance, ...] = ()
        """All that it has, as last listed."""
        self.ledger = Ledger(clock=clock)
        """What it has cost, and what for. Whoever composes the program puts one with a file in its place."""

    def listed(self, instances: Iterable[Instance]) -> None:
        """The instances of the account, all of them, as just read."""
        self.instances = tuple(instances)
        self._dollars_per_hour = sum(one.hourly_cost or 0.0 for one in self.instances)

    async def read(self) -> None:
        """Read the price rises, and the credit unless the key was refused lately. A failure changes nothing and is
        nobody's alarm: that vast.ai does not answer is told by whoever reads the list."""
        await self._read_credit()
        self._warn()
        await self._read_rises()

    async def _read_credit(self) -> None:
        if self._clock() - self._refused_at < REFUSED_FOR_S:
            return
        try:
            user: User = await in_thread(self._client.current_user, name="vast-account")
        except VastUnauthorized as error:
            self._refused_at = self._clock()
            logger.info("the credit of the account is not known: this key may not read it (%s)", error)
        except VastError as error:
            logger.debug("the credit of the account could not be read: %s", error)
        else:
            self._credit, self._read_at = user.credit, self._clock()

    def _warn(self) -> None:
        funds = self.snapshot()
        if (lasts_s := funds.lasts_s) is None:
            return
        passed = sum(lasts_s < limit_s for limit_s in WARN_AT_S)
        if passed > self._warned:
            self._publish(CreditLow(lasts_s, funds.dollars_per_hour or 0.0))
        self._warned = passed

    async def _read_rises(self) -> None:
        if self._clock() - self._rises_refused_at < REFUSED_FOR_S:
            return
        try:
            self._rises = await in_thread(self._client.price_rises, name="vast-prices")
        except VastError as error:
            if not error.retryable:
                self._rises_refused_at = self._clock()
            logger.debug("the price rises that hosts ask for could not be read: %s", error)
        else:
            self._rises_at = self._clock()

    @property
    def credit_dollars(self) -> float | None:
        """What was left when last read; None where that is not known, or too long ago."""
        return self._credit if self._clock() - self._read_at < KNOWN_FOR_S else None

    def reading(self) -> AccountReading:
        """For a scrape."""
        return AccountReading(self.credit_dollars, self.snapshot().lasts_s, self.ledger.book.totals)

    def snapshot(self) -> AccountSnapshot:
        """For people."""
        now = self._clock()
        rises = self._rises if now - self._rises_at < KNOWN_FOR_S else ()
        return snapshot_of(
            self.credit_dollars, self._dollars_per_hour, age_s=now - self._read_at, price_rises=rises
        )
