"""What asks in the simulation of policies: chat sessions, agents and a batch, each drawn from a seed.

A conversation is a list of turns. A turn's prompt is everything said before and something new; the next turn comes a
while after the answer. So how fast answers come decides how much is asked, as with people and programs.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from bench.policies_engine import BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Turn:
    pause_s: float
    """After the answer before it, or after the conversation's beginning."""
    new: tuple[int, ...]
    """Blocks added to the prompt."""
    answer: tuple[int, ...]
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Conversation:
    begins: float
    shared: tuple[int, ...]
    """What it begins with, as others do."""
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    title: str
    draw: Callable[[random.Random, float], list[Conversation]]
    """(rng, factor on how much is asked) -> conversations in the order in which they begin."""


class _Blocks:
    """New names for blocks."""

    def __init__(self) -> None:
        self._names: Iterator[int] = count(1)

    def take(self, tokens: float) -> tuple[int, ...]:
        return tuple(next(self._names) for _ in range(max(1, round(tokens / BLOCK_TOKENS))))


def _turn(rng: random.Random, blocks: _Blocks, pause_s: float, new: float, answer: float) -> Turn:
    tokens = max(8, round(rng.gammavariate(2.0, answer / 2)))
    added = rng.gammavariate(2.0, new / 2)
    return Turn(
        rng.expovariate(1 / pause_s) if pause_s else 0.0, blocks.take(added), blocks.take(tokens), tokens
    )


def _beginnings(rng: random.Random, per_second: float, until_s: float) -> Iterator[float]:
    at = rng.expovariate(per_second)
    while at < until_s:
        yield at
        at += rng.expovariate(per_second)


def chat(rng: random.Random, factor: float) -> list[Conversation]:
    """People: a system prompt of 500 tokens that all share, 3 to 15 turns of 150 tokens, answers of 300, half a minute
    of reading and writing in between."""
    blocks = _Blocks()
    system = blocks.take(500)
    found = []
    for at in _beginnings(rng, 2.2 * factor, 400):
        turns = tuple(
            _turn(rng, blocks, 25 if number else 0, 150, 300) for number in range(rng.randint(3, 15))
        )
        found.append(Conversation(at, system, turns))
    return found


def agents(rng: random.Random, factor: float) -> list[Conversation]:
    """Programs: twelve kinds of agent, some far more common, with 6,000 tokens of instructions and tools each; 5 to 25
    calls that add 700 tokens of what a tool said, answers of 120, two seconds in between."""
    blocks = _Blocks()
    kinds = [blocks.take(6000) for _ in range(12)]
    weights = [1 / (number + 1) for number in range(len(kinds))]
    found = []
    for at in _beginnings(rng, 0.5 * factor, 400):
        turns = tuple(
            _turn(rng, blocks, 2 if number else 0, 700, 120) for number in range(rng.randint(5, 25))
        )
        found.append(Conversation(at, rng.choices(kinds, weights)[0], turns))
    return found


def batch(rng: random.Random, factor: float) -> list[Conversation]:
    """A job: 3,000 documents of 900 tokens behind the same 300 tokens of instructions, answers of 200, handed in by a
    program that has them all within a minute."""
    blocks = _Blocks()
    instructions = blocks.take(300)
    return [
        Conversation(at, instructions, (_turn(rng, blocks, 0, 900, 200),))
        for at in sorted(rng.uniform(0, 60) for _ in range(round(3000 * factor)))
    ]


WORKLOADS: Mapping[str, Workload] = {
    each.name: each
    for each in (
        Workload("chat", "chat sessions", chat),
        Workload("agents", "agents with long shared prefixes", agents),
        Workload("batch", "a batch of documents", batch),
    )
}
