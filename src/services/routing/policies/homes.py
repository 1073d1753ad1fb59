"""Where the beginnings of prompts have been: a bounded memory of at most two candidates for each.

An engine keeps what it has computed for a prompt and saves that work for the next prompt that begins alike. Which one
has what is told by nobody, so it is remembered here by where requests went. Beginnings are known by their hashes
alone.
"""

from collections import OrderedDict
from collections.abc import Container

#: One home, and one more for a prefix that is asked for more than one can serve. Each more would compute it again.
MAX_HOMES = 2


class Homes:
    """Least recently used beginnings are forgotten."""

    def __init__(self, max_prefixes: int = 65_536) -> None:
        """`max_prefixes`: beginnings remembered, 250 bytes each."""
        self._max = max_prefixes
        self._table: OrderedDict[int, tuple[int, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table)

    def find(self, prefix: tuple[int, ...], offered: Container[int]) -> tuple[int, tuple[int, ...]]:
        """The length, in blocks, of the longest known beginning of `prefix` with a home among the `offered`, and those
        homes. 0 and none if there is none."""
        table = self._table
        for depth in range(len(prefix), 0, -1):
            known = table.get(prefix[depth - 1])
            if known is not None and (homes := tuple([key for key in known if key in offered])):
                return depth, homes
        return 0, ()

    def record(self, prefix: tuple[int, ...], key: int, offered: Container[int]) -> None:
        """A prompt with this beginning has gone to `key`. A home that is not `offered` gives way, if there must be
        room."""
        table = self._table
        for block in prefix:
            known = table.get(block)
            if known is None:
                table[block] = (key,)
            elif key in known:
                table.move_to_end(block)
            else:
                table[block] = _with(known, key, offered)
                table.move_to_end(block)
        while len(table) > self._max:
            table.popitem(last=False)


def _with(known: tuple[int, ...], key: int, offered: Container[int]) -> tuple[int, ...]:
    if len(known) < MAX_HOMES:
        return (*known, key)
    lost = next((each for each in known if each not in offered), None)
    return known if lost is None else (*(each for each in known if each != lost), key)
