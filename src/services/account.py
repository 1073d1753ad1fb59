"""The account behind the fleet: what credit it has, what it costs, and for how long that lasts."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vastproxy.services.ledger.ledger import Ledger
from vastproxy.services.metrics.readings import AccountReading
from vastproxy.services.threads import in_thread
from vastproxy.vastai import Instance, User, VastClient, VastError, VastUnauthorized

logger = logging.getLogger(__name__)

#: A credit that was read so long ago is told no more: at some dollars an hour it has become another one.
KNOWN_FOR_S = 3600.0
#: A key without the right to read the account is tried again after so long: rights can be added to it.
REFUSED_FOR_S = 3600.0


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """The account now. `credit_dollars`: None where it is not known, for example because the key may not read it.
    `dollars_per_hour`: what all its instances cost, also those that are stopped or not served; None before the first
    list. `hours_left`: how long the credit lasts at that; None where either is not known, or nothing costs anything."""

    credit_dollars: float | None
    dollars_per_hour: float | None
    hours_left: float | None


def snapshot_of(credit_dollars: float | None, dollars_per_hour: float | None) -> AccountSnapshot:
    """The three figures, rounded for people. Pure."""
    hours = None
    if credit_dollars is not None and dollars_per_hour is not None and dollars_per_hour > 0:
        hours = round(max(credit_dollars, 0.0) / dollars_per_hour, 1)
    return AccountSnapshot(
        None if credit_dollars is None else round(credit_dollars, 2),
        None if dollars_per_hour is None else round(dollars_per_hour, 4),
        hours,
    )


class Account:
    """See the module's docstring. Belongs to one event loop; `clock` is monotonic."""

    def __init__(self, client: VastClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._credit: float | None = None
        self._read_at = float("-inf")
        self._refused_at = float("-inf")
        self._dollars_per_hour: float | None = None
        self.instances: tuple[Instance, ...] = ()
        """All that it has, as last listed."""
        self.ledger = Ledger(clock=clock)
        """What it has cost, and what for. Whoever composes the program puts one with a file in its place."""

    def listed(self, instances: Iterable[Instance]) -> None:
        """The instances of the account, all of them, as just read."""
        self.instances = tuple(instances)
        self._dollars_per_hour = sum(one.hourly_cost or 0.0 for one in self.instances)

    async def read(self) -> None:
        """Read the credit, unless the key was refused lately. A failure changes nothing and is nobody's alarm: that
        vast.ai does not answer is told by whoever reads the list."""
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

    @property
    def credit_dollars(self) -> float | None:
        """What was left when last read; None where that is not known, or too long ago."""
        return self._credit if self._clock() - self._read_at < KNOWN_FOR_S else None

    def reading(self) -> AccountReading:
        """For a scrape."""
        return AccountReading(self.credit_dollars, self.ledger.book.totals)

    def snapshot(self) -> AccountSnapshot:
        """For people."""
        return snapshot_of(self.credit_dollars, self._dollars_per_hour)
