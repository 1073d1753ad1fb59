"""A policy that somebody else has written: found by its name, and kept from doing harm.

`routing.policy` may be `module:Class`. The class is made from `Pooled`, takes a `random.Random`, and has `choose` and
`judge`. One of it is made for each model. When one raises, or chooses who cannot be chosen, the request goes to the
least loaded and the log says so: a mistake in a policy costs its wisdom, and nobody's request.
"""

import importlib
import logging
import random
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vastproxy.services.routing.candidate import Candidate, may_take
from vastproxy.services.routing.policies.least_loaded import ONLY, least, load
from vastproxy.services.routing.policies.pooled import Pooled
from vastproxy.services.routing.policy import Choice, Hint
from vastproxy.settings.errors import SettingsError

logger = logging.getLogger(__name__)

#: One failure in so many is logged after the first: a policy that always fails would fill the disk.
LOGGED_EACH = 1_000


def own_policy(name: str) -> Callable[[random.Random], Pooled]:
    """The class that `module:Class` names. The working directory is looked in last.

    Raises SettingsError when there is none, or when it is no class made from `Pooled` with a `choose` and a `judge`.
    """
    module_name, _, class_name = name.partition(":")
    where = f"routing.policy is {name}, but"
    try:
        with _working_directory_known():
            module = importlib.import_module(module_name)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise SettingsError(
            f"{where} the module {module_name} cannot be imported ({why}); it must be installed, or stand in the "
            "directory where you start"
        ) from error
    found: Any = getattr(module, class_name, None)
    if found is None:
        raise SettingsError(f"{where} the module {module_name} has no {class_name}")
    if not (isinstance(found, type) and issubclass(found, Pooled)):
        raise SettingsError(f"{where} that is no class made from vastproxy.Pooled")
    lacking = [
        each for each in ("choose", "judge") if getattr(found, each, None) is getattr(Pooled, each, None)
    ]
    if lacking:
        raise SettingsError(f"{where} it has no method {' and no method '.join(lacking)}")
    try:
        found(random.Random(0))
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise SettingsError(f"{where} {class_name}(random.Random(…)) cannot be made ({why})") from error
    return found


@contextmanager
def _working_directory_known() -> Iterator[None]:
    """Installed programs do not look for modules where they are started, as `python -m` does."""
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


class Guarded(Pooled):
    """A policy around one that nobody here has tested."""

    def __init__(self, own: Pooled, rng: random.Random) -> None:
        super().__init__(rng)
        self._own = own
        self._failures = 0
        self.pool = own.pool
        self.hears_of_ends = type(own).finished is not Pooled.finished

    def offer(self, candidate: Candidate) -> None:
        """See `Policy.offer`."""
        self._try(self._own.offer, candidate)
        self.pool.add(candidate)

    def withdraw(self, key: int) -> None:
        """See `Policy.withdraw`."""
        self._try(self._own.withdraw, key)
        self.pool.discard(key)

    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        """See `Policy.choose`. Whom the policy may not choose, and nobody where there is somebody, count as failures:
        a request would wait for ever for a place that is there."""
        own: Any = self._own
        try:
            choice = _checked(own.choose(hint, now, exclude=exclude))
            if choice is not None:
                chosen = choice.candidate
                if self.pool.get(chosen.key) is chosen and may_take(chosen, exclude):
                    return choice
                return self._instead(f"it chose {chosen.key}, which has no place", now, exclude)
        except Exception as error:
            return self._instead(f"{type(error).__name__}: {error}", now, exclude, error)
        fallback = self._least(now, exclude, "")
        return None if fallback is None else self._instead("it chose nobody", now, exclude)

    def assigned(self, key: int, hint: Hint, now: float) -> None:
        """See `Policy.assigned`."""
        self._try(self._own.assigned, key, hint, now)

    def finished(self, key: int, now: float) -> None:
        """See `Policy.finished`."""
        self._try(self._own.finished, key, now)

    def judge(self, candidate: Candidate, hint: Hint, now: float) -> tuple[float, str]:
        """See `Pooled.judge`."""
        own: Any = self._own
        try:
            score, why = own.judge(candidate, hint, now)
            return float(score), str(why)
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}", error)
            return load(candidate), "load (the policy failed)"

    def _instead(
        self, why: str, now: float, exclude: Collection[int], error: Exception | None = None
    ) -> Choice | None:
        self._failed(why, error)
        return self._least(now, exclude, "the policy failed")

    def _least(self, now: float, exclude: Collection[int], why: str) -> Choice | None:
        best, scores = least(self.pool, now, exclude)
        return None if best is None else Choice(best, why or ONLY, scores, self.pool.count)

    def _try(self, told: Callable[..., object], *about: object) -> None:
        try:
            told(*about)
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}", error)

    def _failed(self, why: str, error: Exception | None) -> None:
        self._failures += 1
        if self._failures == 1 or self._failures % LOGGED_EACH == 0:
            logger.error(
                "the policy %s failed (%d times by now), the least loaded is asked instead: %s",
                type(self._own).__name__,
                self._failures,
                why,
                exc_info=error,
            )


def _checked(choice: Any) -> Choice | None:
    """What somebody else's `choose` has returned, of the types that are promised. Raises TypeError and ValueError."""
    if choice is None:
        return None
    if not isinstance(choice, Choice):
        raise TypeError(f"choose returned {type(choice).__name__}, not a Choice")
    told: Any = choice
    scores = [(int(key), float(score)) for key, score in told.scores]
    return Choice(told.candidate, str(told.why), scores, int(told.among))
