"""The order of tests that several processes share."""

from collections.abc import Callable, Sequence
from itertools import groupby

import pytest


def woven(items: Sequence[pytest.Item], *, waits: Callable[[pytest.Item], bool]) -> list[pytest.Item]:
    """The files of those that wait and of those that do not, each spread evenly over the whole. The tests of a file
    stay together, as they may share what is dear to set up."""
    kinds: tuple[list[pytest.Item], list[pytest.Item]] = ([], [])
    for item in items:
        kinds[waits(item)].append(item)
    placed = [(place, list(file)) for kind in kinds for place, file in _placed(kind)]
    return [item for _, file in sorted(placed, key=lambda one: one[0]) for item in file]


def _placed(kind: Sequence[pytest.Item]) -> list[tuple[float, list[pytest.Item]]]:
    """Each file of one kind, and how much of the kind is before its middle."""
    found, before = [], 0
    for _, group in groupby(kind, key=lambda item: item.path):
        file = list(group)
        found.append(((before + len(file) / 2) / len(kind), file))
        before += len(file)
    return found
