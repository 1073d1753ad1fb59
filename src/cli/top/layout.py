"""Who gets how many lines of the terminal. Pure."""

from typing import NamedTuple

#: From so many columns on, events and requests stand side by side.
SIDE_BY_SIDE = 120
#: A terminal of fewer lines has no room for what is below the list.
LOW = 14
#: Lines below the list, the title included: at least, and what they should have if the list leaves it.
LEAST, GOOD = 4, 8


class Places(NamedTuple):
    """Lines of the list with its title, and of what is below it with its own; 0: not shown."""

    backends: int
    below: int
    side_by_side: bool


def places(width: int, height: int, *, header: int, needed: int) -> Places:
    """`header`: lines above; `needed`: those with which the list would be whole. One line is for the keys."""
    room = max(height - header - 1, 1)
    if height < LOW:
        return Places(room, 0, False)
    least = max(LEAST, min(GOOD, room // 3))
    backends = min(max(needed, 3), room - least)
    return Places(backends, room - backends, width >= SIDE_BY_SIDE)


def scrolled(top: int, first: int, behind: int, room: int, total: int) -> int:
    """Where to begin, moved as little as may be, so that lines `first` to `behind` – 1 are among the `room` that are
    seen of `total`."""
    if behind > top + room:
        top = behind - room
    if first < top:
        top = first
    return max(min(top, total - room), 0)
