"""Who a shared hour's rent belongs to. Pure.

What an instance cost in an hour has two parts. Its idle seconds are nobody's: they stay with `IDLE`. Those in which it
worked are shared by the models (or keys) that it served in that hour, by their tokens; by their requests where none of
them has tokens. An hour of work in which no request ended belongs to what ends next at that instance; as long as
nothing has, it stays with `UNFINISHED`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

IDLE: Final = "(idle)"
UNFINISHED: Final = "(unfinished)"

#: Hour, instance, dollars of its work, and what it served: name -> (tokens, requests).
WorkedHour = tuple[int, int, float, Mapping[str, tuple[int, int]]]


def shares(hours: Iterable[WorkedHour]) -> Iterator[tuple[str, float]]:
    """Names, each with dollars, over and over; in all as much as came in. `hours`: in the order of time."""
    waiting: dict[int, float] = {}
    for _, instance, busy_dollars, served in hours:
        dollars = busy_dollars + waiting.pop(instance, 0.0)
        if not served:
            waiting[instance] = dollars
            continue
        at = 0 if any(tokens for tokens, _ in served.values()) else 1
        whole = sum(counts[at] for counts in served.values())
        for name, counts in served.items():
            yield name, dollars * counts[at] / whole if whole else dollars / len(served)
    for dollars in waiting.values():
        yield UNFINISHED, dollars
