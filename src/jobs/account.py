"""Reads the account's credit now and then: dollars go slowly, and vast.ai shall be asked seldom."""

import random

from vastproxy.services.account import Account
from vastproxy.services.tasks import every

#: Time between two readings.
EVERY_S = 300.0
#: Share by which it varies, so that several proxies do not ask at once.
JITTER = 0.1


class AccountJob:
    """The timer behind `Account.read`."""

    def __init__(
        self, account: Account, *, interval_s: float = EVERY_S, rng: random.Random | None = None
    ) -> None:
        self._account = account
        self._interval_s = interval_s
        self._rng = rng

    async def run(self) -> None:
        """Run until cancelled."""
        await every(self._interval_s, self._account.read, jitter=JITTER, rng=self._rng)
