"""The two text formats that Prometheus reads, line by line: text 0.0.4 and OpenMetrics 1.0. Pure.

A large fleet has tens of thousands of lines, so they are made as text at once, without an object for each sample.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "summary", "info"]

#: Characters of a label's value that somebody else chose; the rest is cut off.
LABEL_CHARS = 128
#: What OpenMetrics ends with.
END = "# EOF\n"


class Form(Enum):
    """A text format. Its value is its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: what it is called, what it counts, and the labels that its samples may have."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    def head(self, form: Form) -> str:
        """The lines in front of its samples."""
        name, kind = self.name, self.kind
        if form is Form.OPENMETRICS:
            name = name.removesuffix("_total").removesuffix("_info")
        elif kind == "info":
            kind = "gauge"
        text = self.help.replace("\\", "\\\\").replace("\n", "\\n")
        return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def choose(accept: str) -> Form:
    """The format for an Accept header: OpenMetrics where it is named and wanted at least as much as plain text."""
    wanted = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        if kind in wanted:
            wanted[kind] = max(wanted[kind], _quality(parameters))
    openmetrics, plain = wanted.values()
    return Form.OPENMETRICS if openmetrics > 0 and openmetrics >= plain else Form.TEXT


def _quality(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def quoted(value: str) -> str:
    """A label's value between its quotes. What cannot be printed is replaced, what is too long is cut."""
    if len(value) > LABEL_CHARS:
        value = value[: LABEL_CHARS - 1] + "…"
    if not value.isprintable():
        value = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value)
    return value.replace("\\", "\\\\").replace('"', '\\"')


def labelled(**labels: str) -> str:
    """Labels as they stand between the braces, those without a value left out."""
    return ",".join(f'{name}="{quoted(value)}"' for name, value in labels.items() if value)


def sample(name: str, labels: str, value: float) -> str:
    """One line. `labels` as `labelled` makes them."""
    return f"{name}{{{labels}}} {value}\n" if labels else f"{name} {value}\n"


def histogram(name: str, labels: str, bounds: Sequence[float], counts: Sequence[int], total: float) -> str:
    """The lines of one histogram. `counts` has one number for each bound, and one for what lies above them all."""
    comma = "," if labels else ""
    places = [*map(repr, bounds), "+Inf"]
    sums = list(accumulate(counts))
    lines = [
        f'{name}_bucket{{{labels}{comma}le="{place}"}} {below}\n'
        for place, below in zip(places, sums, strict=True)
    ]
    lines.append(sample(f"{name}_sum", labels, total))
    lines.append(sample(f"{name}_count", labels, sums[-1]))
    return "".join(lines)


def block(family: Family, form: Form, lines: Iterable[str]) -> Iterator[str]:
    """A family with its samples, in pieces; no text at all where there are no samples. An empty line is passed on: it
    says that work was done meanwhile."""
    head = family.head(form)
    for line in lines:
        if line:
            yield head + line
            head = ""
        else:
            yield line
