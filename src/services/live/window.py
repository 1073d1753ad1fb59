"""Values at moments of the last so many seconds, so that a new one can be held against one from then. Pure."""

from collections import deque
from typing import Generic, TypeVar

V = TypeVar("V")


class Window(Generic[V]):
    """Keeps what is needed to look back `span_s` seconds: the samples within, and the last one before."""

    def __init__(self, span_s: float, at: float, value: V, *, limit: int) -> None:
        """With its first sample. `limit`: samples kept at most, beyond which the window is shorter."""
        self._span_s = span_s
        self._samples: deque[tuple[float, V]] = deque([(at, value)], maxlen=limit)

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, at: float, value: V) -> None:
        """The value at `at`, which is not before the last one's time."""
        samples = self._samples
        samples.append((at, value))
        while len(samples) > 1 and at - samples[1][0] >= self._span_s:
            samples.popleft()

    @property
    def oldest(self) -> tuple[float, V]:
        """The sample to look back to, and its time."""
        return self._samples[0]

    @property
    def newest_at(self) -> float:
        """The time of the last sample."""
        return self._samples[-1][0]
