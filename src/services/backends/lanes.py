"""How many SSH connections to one instance are worth having. Pure.

One connection is one TCP stream and, at the other end, one process of sshd: what it can carry ends where that core or
the window of that stream ends, and a large answer delays the tokens of all others on it. `bench.lanes`, 4 MB/s and
80 ms round trip for each connection: tokens of 40 streams come 465 ms late beside 4 downloads on one connection, 41 ms
(median) where more may be opened, 41 ms without downloads. Without a queue 200 streams come no sooner over four.
"""

from collections.abc import Sequence

#: A connection is given up only when the others would then be at most this full: a burst must not open and close.
_ROOM_LEFT = 0.5


def change(
    busy: Sequence[int], *, is_queueing: bool, per_connection: int, most: int, has_queued: bool = False
) -> int:
    """1: open another connection, -1: give up the last one, 0: leave it.

    `busy` is the number of requests on each of them. `is_queueing`: on all of them what is sent waits behind other
    things. `has_queued`: on one of them it did lately, so that fewer would not do.
    """
    count, total = len(busy), sum(busy)
    if count < most and (total >= count * per_connection or (is_queueing and total > count)):
        return 1
    if count > 1 and not (is_queueing or has_queued) and total <= (count - 1) * per_connection * _ROOM_LEFT:
        return -1
    return 0
