"""Sums since the start of the process, for metrics. Pure."""

from dataclasses import dataclass, field
from typing import Final

#: Names of models that are told apart; the fleet tells of few, so this is a bound and no choice.
MAX_MODELS: Final = 256
OTHER: Final = "other"


@dataclass(slots=True)
class Tokens:
    """Of one model. `estimated`: how many of both kinds are no count of an engine's."""

    prompt: int = 0
    answer: int = 0
    estimated: int = 0


@dataclass(slots=True)
class Totals:
    """`busy_dollars` and `idle_dollars` are rent, by whether the instance had work; `bandwidth_dollars` come on top."""

    busy_dollars: float = 0.0
    idle_dollars: float = 0.0
    bandwidth_dollars: float = 0.0
    models: dict[str, Tokens] = field(default_factory=dict)

    def rent(self, dollars: float, is_busy: bool) -> None:
        """Some seconds of one instance."""
        if is_busy:
            self.busy_dollars += dollars
        else:
            self.idle_dollars += dollars

    def request(self, model: str, prompt: int, answer: int, estimated: int, bandwidth: float) -> None:
        """A request that an instance was asked for."""
        self.bandwidth_dollars += bandwidth
        found = self.models.get(model)
        if found is None:
            name = model if len(self.models) < MAX_MODELS else OTHER
            found = self.models.setdefault(name, Tokens())
        found.prompt += prompt
        found.answer += answer
        found.estimated += estimated
